package action

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// tcpListen is the state of a listening socket in /proc/net/tcp.
const tcpListen = "0A"

// listensAt returns the TCP addresses on which the process group, or what descends from its leader, listens.
func listensAt(leader int) ([]netip.AddrPort, error) {
	sockets := make(map[string]netip.AddrPort)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if err := readListeners(table, sockets); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("find where the program listens: %w", err)
		}
	}
	members, err := groupMembers(leader)
	if err != nil {
		return nil, fmt.Errorf("find where the program listens: %w", err)
	}
	var at []netip.AddrPort
	for _, pid := range members {
		// A process that has ended meanwhile, or is not ours to look at, listens nowhere.
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			target, err := os.Readlink(fd)
			if err != nil {
				continue
			}
			if addr, ok := sockets[target]; ok && !slices.Contains(at, addr) {
				at = append(at, addr)
			}
		}
	}
	slices.SortFunc(at, func(a, b netip.AddrPort) int { return a.Compare(b) })
	return at, nil
}

// readListeners adds the listening sockets of a table, by what a link in /proc/PID/fd says of them.
func readListeners(table string, sockets map[string]netip.AddrPort) error {
	f, err := os.Open(table)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != tcpListen {
			continue
		}
		addr, err := kernelAddr(fields[1])
		if err != nil {
			return fmt.Errorf("read %s: %w", table, err)
		}
		sockets["socket:["+fields[9]+"]"] = addr
	}
	return lines.Err()
}

// kernelAddr reads an address as /proc/net/tcp has it: 32-bit words in hexadecimal, which hold the bytes in the machine's order.
func kernelAddr(text string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	var b []byte
	for ; len(host) >= 8; host = host[8:] {
		word, err := strconv.ParseUint(host[:8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
		}
		b = binary.NativeEndian.AppendUint32(b, uint32(word))
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}

// groupMembers returns the processes of leader's group and all that descend from leader.
func groupMembers(leader int) ([]int, error) {
	table, err := processTable()
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	members := []int{leader}
	for _, r := range table {
		children[r.parent] = append(children[r.parent], r.pid)
		if r.group == leader && r.pid != leader {
			members = append(members, r.pid)
		}
	}
	for i := 0; i < len(members); i++ {
		for _, child := range children[members[i]] {
			if !slices.Contains(members, child) {
				members = append(members, child)
			}
		}
	}
	return members, nil
}
