package action

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// endWithParent has the process asked to end where hubhook is killed. What it has started is not asked.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }

// processTable lists the system's processes, by ps where /proc is missing.
func processTable() ([]row, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return listWithPs()
	}
	var table []row
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		if r, ok := parseStat(pid, stat); ok {
			table = append(table, r)
		}
	}
	if len(table) == 0 {
		return listWithPs()
	}
	return table, nil
}

// parseStat reads /proc/PID/stat.
func parseStat(pid int, stat []byte) (r row, ok bool) {
	// The name before it, in parentheses, may hold anything.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 20 {
		return row{}, false
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return row{}, false
	}
	group, err := strconv.Atoi(f[2])
	if err != nil {
		return row{}, false
	}
	return row{pid: pid, parent: parent, group: group, started: f[19], zombie: f[0] == "Z" || f[0] == "X"}, true
}

// hasMark reports whether the process was given the mark in its environment.
func hasMark(pid int, mark string) bool {
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false // it has ended, or is another user's
	}
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(v, []byte(markVariable+"=")); ok && bytes.Contains(value, []byte(mark)) {
			return true
		}
	}
	return false
}
