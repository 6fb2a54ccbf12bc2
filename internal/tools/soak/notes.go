//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"
)

// handling holds the notes about one delivery.
type handling struct {
	starts, dones int
	died          int      // times that its handler killed the process
	merged        []string // IDs that the last handler to succeed was told
	key           string   // of SerialBy or Debounce, "" for none
	pid           string   // of the process whose handler runs, "" while none does
}

// readNotes reads the handlers' notes, by delivery ID. wrong are the lines that must not follow the lines before them.
func readNotes(file string) (handled map[string]*handling, wrong []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read the notes: %w", err)
	}
	handled = map[string]*handling{}
	running := map[string]map[string]bool{} // IDs by process
	holders := map[string]string{}          // IDs by key
	complain := func(n int, format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("line %d of the notes: ", n+1)+fmt.Sprintf(format, args...))
	}
	for n, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		fields := strings.Split(line, " ")
		if len(fields) != 5 {
			if line != "" {
				complain(n, "%q is none", line)
			}
			continue
		}
		kind, id, pid, key := noteKind(fields[0]), fields[1], fields[2], fields[3]
		h := handled[id]
		if h == nil && kind != noteGone {
			h = &handling{}
			handled[id] = h
		}
		if kind != noteStart && kind != noteGone && h.pid != pid {
			complain(n, "%s notes %s of %s, which is handled by %q", pid, kind, id, h.pid)
			continue
		}
		switch kind {
		case noteStart:
			if h.pid != "" {
				complain(n, "%s begins to handle %s while %s still does", pid, id, h.pid)
			}
			if other := holders[key]; other != "" {
				complain(n, "%s begins to handle %s while %s, which has the key %s too, is being handled", pid, id, other, key)
			}
			if key != "" {
				holders[key] = id
			}
			h.starts++
			h.pid, h.key = pid, key
			if running[pid] == nil {
				running[pid] = map[string]bool{}
			}
			running[pid][id] = true
		case noteDone:
			h.dones++
			h.merged = nil
			if fields[4] != "" {
				h.merged = strings.Split(fields[4], ",")
			}
		case noteDie:
			h.died++
		case noteEnd:
			h.pid = ""
			delete(running[pid], id)
			delete(holders, key)
		case noteGone:
			for id := range running[pid] {
				handled[id].pid = ""
				delete(holders, handled[id].key)
			}
			delete(running, pid)
		default:
			complain(n, "%q is of no kind", line)
		}
	}
	return handled, wrong, nil
}
