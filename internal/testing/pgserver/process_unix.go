//go:build unix

package pgserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// serverUser returns the user that the server runs as: PostgreSQL refuses to be root.
func serverUser() (uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return os.Getuid(), os.Getgid(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return 0, 0, fmt.Errorf("PostgreSQL does not run as root, and there is no user for it: %w", err)
		}
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

func ownedByServer(dir string) error {
	uid, gid, err := serverUser()
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	return os.Chown(dir, uid, gid)
}

// runAsServer makes cmd run as the server's user, in a process group of its own. There Ctrl-C on the terminal does not end it before
// the tests have ended.
func runAsServer(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := serverUser()
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

func interrupt(p *os.Process) error { return p.Signal(syscall.SIGINT) }

// kill ends all processes. It suspends the first process before that, so that it starts no new ones meanwhile.
func kill(p *os.Process) error {
	return errors.Join(p.Signal(syscall.SIGSTOP), signalChildren(p, syscall.SIGKILL), p.Signal(syscall.SIGKILL))
}

func pause(p *os.Process) error {
	return errors.Join(p.Signal(syscall.SIGSTOP), signalChildren(p, syscall.SIGSTOP))
}

func proceed(p *os.Process) error {
	return errors.Join(signalChildren(p, syscall.SIGCONT), p.Signal(syscall.SIGCONT))
}

// signalChildren sends a signal to the children of a server's first process. Each child has a process group of its own, so they are
// found in /proc. That works on Linux alone.
func signalChildren(p *os.Process, sig syscall.Signal) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		// Begin after the program's name: it is in parentheses and may contain anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(p.Pid) {
			continue
		}
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}
