package action

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// Notices says, each once, that hubhook reads the files at intervals because the system can't watch them, and that it watches very many
// directories.
func (w *Watcher) Notices() <-chan Advice { return w.notices }

// poll begins to read every file at intervals, because the system refused to watch.
func (w *Watcher) poll(err error) {
	fix := "leave out large directories that hold no code: --ignore DIR/"
	if runtime.GOOS == "linux" {
		switch {
		case errors.Is(err, syscall.ENOSPC):
			fix = "raise the limit of watches: sudo sysctl fs.inotify.max_user_watches=524288; or leave out directories that hold no code: --ignore DIR/"
		case errors.Is(err, syscall.EMFILE):
			fix = "raise the limit of watchers: sudo sysctl fs.inotify.max_user_instances=1024"
		}
	}
	w.polls = true
	if w.system != nil {
		// The limit is for all programs of this person: an editor needs watches too.
		_ = w.system.Close() // nothing is lost where it fails
		w.system = nil
	}
	w.notices <- Advice{ // once, so there is room
		Cause: fmt.Sprintf("the system cannot watch the files below %s (%v): hubhook looks at all of them again and again instead, at least %s apart", w.cfg.Root, err, w.cfg.pollEvery),
		Fix:   fix,
	}
}

// warnOfMany says that there are many directories, or too many. Someone may have started hubhook in a home directory.
func (w *Watcher) warnOfMany() {
	n := len(w.dirs)
	if w.many || n <= w.cfg.manyDirs && !w.cut {
		return
	}
	w.many = true
	below := make(map[string]int) // directories, by the first name of their paths
	for dir := range w.dirs {
		if dir != "." {
			first, _, _ := strings.Cut(dir, "/")
			below[first]++
		}
	}
	names := slices.SortedFunc(maps.Keys(below), func(a, b string) int {
		return cmp.Or(cmp.Compare(below[b], below[a]), cmp.Compare(a, b))
	})
	var most, flags []string
	for _, name := range names[:min(len(names), 3)] {
		if below[name] >= n/10 {
			most = append(most, fmt.Sprintf("%s (%d)", name, below[name]))
			flags = append(flags, "--ignore "+name+"/")
		}
	}
	cause := fmt.Sprintf("%d directories below %s are watched, most of them in %s: an edit of any file there restarts the program", n, w.cfg.Root, strings.Join(most, ", "))
	if w.cut {
		cause = fmt.Sprintf("there are more than %d directories below %s, most of them in %s: deeper ones are not watched", n, w.cfg.Root, strings.Join(most, ", "))
	}
	if len(most) == 0 {
		cause = strings.Replace(cause, ", most of them in ", "", 1)
		flags = []string{"--ignore DIR/"}
	}
	w.notices <- Advice{ // once, so there is room
		Cause: cause,
		Fix:   "start hubhook in the program's own directory, or leave out what holds no code: " + strings.Join(flags, " "),
	}
}
