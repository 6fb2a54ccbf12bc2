//go:build unix

package action

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// group is what a Unix system knows of a process and its children.
type group struct {
	empty atomic.Bool // no process of the group lives, so its number may be another's by now
}

// row is one process of the system.
type row struct {
	pid, parent, group int
	started            string // tells two processes with the same pid apart, "" where the system does not say
	zombie             bool
}

// identity of a process.
type identity struct {
	pid     int
	started string
}

func (r row) identity() identity { return identity{r.pid, r.started} }

func (p *process) start() error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(p.cmd.SysProcAttr)
	return p.cmd.Start()
}

// reaped is called once the first process has been waited for. From then on its pid belongs to its group alone, if the group has
// other members, and is free otherwise.
func (p *process) reaped() {
	if errors.Is(syscall.Kill(-p.Pid(), 0), syscall.ESRCH) {
		p.group.empty.Store(true)
	}
}

// end is the work of Stop. It reports false where something may still live.
func (p *process) end(grace time.Duration) bool {
	h := hunt{p: p, known: map[identity]bool{}, marked: map[identity]bool{}, refused: map[int]bool{}}
	h.signal(h.find(), syscall.SIGTERM)
	if h.goneWithin(grace, func([]row) {}) {
		return len(h.refused) == 0
	}
	// All are stopped before the first is killed: one that outlives its parent could start another that nothing connects with us.
	held := map[identity]bool{}
	for grown := true; grown; {
		alive := h.find()
		grown = false
		for _, r := range alive {
			grown = grown || !held[r.identity()]
			held[r.identity()] = true
		}
		h.signal(alive, syscall.SIGSTOP)
	}
	return h.goneWithin(killGrace, func(alive []row) { h.signal(alive, syscall.SIGKILL) }) && len(h.refused) == 0
}

// hunt looks for what belongs to a process.
type hunt struct {
	p       *process
	known   map[identity]bool // all that was found so far
	marked  map[identity]bool // whether the mark stood in the environment, for all that were looked at
	refused map[int]bool      // pids of another user's, that can't be signalled
}

// goneWithin calls again with the processes that live, until none lives or d is over.
func (h *hunt) goneWithin(d time.Duration, again func(alive []row)) bool {
	wait := time.Millisecond
	for deadline := time.Now().Add(d); ; {
		alive := h.find()
		if len(alive) == 0 {
			return true
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		again(alive)
		time.Sleep(min(wait, left))
		wait = min(2*wait, 100*time.Millisecond)
	}
}

// find returns what of the process lives, apart from what can't be signalled.
func (h *hunt) find() []row {
	table, err := processTable()
	if err != nil {
		return h.findByGroup()
	}
	group := h.p.Pid()
	children := map[int][]row{}
	var found []row
	seen := map[int]bool{}
	add := func(r row) {
		if !seen[r.pid] && !r.zombie && !h.refused[r.pid] {
			seen[r.pid] = true
			h.known[r.identity()] = true
			found = append(found, r)
		}
	}
	for _, r := range table {
		children[r.parent] = append(children[r.parent], r)
		if h.belongs(r, group) {
			add(r)
		}
		if r.zombie && r.parent == os.Getpid() && r.pid != group && (r.group == group || h.known[r.identity()]) {
			// Orphans of ours come back to us where we are process 1, as in a container.
			_, _ = syscall.Wait4(r.pid, nil, syscall.WNOHANG, nil)
		}
	}
	for i := 0; i < len(found); i++ { // found grows
		for _, child := range children[found[i].pid] {
			add(child)
		}
	}
	select {
	case <-h.p.done:
		if !inGroup(found, group) {
			h.p.group.empty.Store(true)
		}
	default: // the first process keeps the number
	}
	return found
}

// belongs reports whether r belongs to the process by itself, whoever its parent is.
func (h *hunt) belongs(r row, group int) bool {
	id := r.identity()
	if h.known[id] || r.group == group && !h.p.group.empty.Load() {
		return true
	}
	if r.zombie || r.pid == os.Getpid() {
		return false
	}
	marked, ok := h.marked[id]
	if !ok {
		marked = hasMark(r.pid, h.p.mark)
		h.marked[id] = marked
	}
	return marked
}

func inGroup(rows []row, group int) bool {
	for _, r := range rows {
		if r.group == group {
			return true
		}
	}
	return false
}

// findByGroup serves where the system's processes can't be listed.
func (h *hunt) findByGroup() []row {
	group := h.p.Pid()
	if h.p.group.empty.Load() || h.refused[group] || errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
		return nil
	}
	return []row{{pid: group, group: group}}
}

// signal sends sig to the group, and to each of rows that is not in the group.
func (h *hunt) signal(rows []row, sig syscall.Signal) {
	group := h.p.Pid()
	var ofGroup error // that of one member only where no member can be signalled
	if inGroup(rows, group) {
		ofGroup = syscall.Kill(-group, sig)
	}
	for _, r := range rows {
		err := ofGroup
		if r.group != group {
			err = syscall.Kill(r.pid, sig)
		}
		if errors.Is(err, syscall.EPERM) {
			h.refused[r.pid] = true
		}
	}
}

// listWithPs asks ps for all processes. Every Unix system has it, with these columns.
func listWithPs() ([]row, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "stat=").Output()
	if err != nil {
		return nil, err
	}
	var table []row
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		var numbers [3]int
		for i := range numbers {
			if numbers[i], err = strconv.Atoi(f[i]); err != nil {
				return nil, err
			}
		}
		table = append(table, row{pid: numbers[0], parent: numbers[1], group: numbers[2], zombie: strings.HasPrefix(f[3], "Z")})
	}
	return table, nil
}
