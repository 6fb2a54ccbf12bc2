package queue

import (
	"sync"
	"sync/atomic"
)

// feed tells Config.Changed, Config.Warn and the watchers what happened. Whoever changes something notes it while Queue.mu is held, and
// calls tell once Queue.mu is unlocked. Each change is told once, in the order in which it was noted. The feed can't fill up, because
// whoever noted something waits until it is told.
type feed struct {
	changed func(Change) // nil for none
	warn    func(error)

	telling sync.Mutex // held by the goroutine that tells; nothing waits for it with Queue.mu or mu locked
	spare   []news     // guarded by telling

	mu       sync.Mutex // guards what follows; may be taken while Queue.mu is held
	noted    []news
	watchers map[*Watcher]struct{}
	closed   bool
}

// news is one thing to tell: a warning, or else a change.
type news struct {
	change    Change
	elsewhere bool // another process made the change, so only watchers are told
	warning   error
}

// wanted reports whether anyone would be told of a change.
func (f *feed) wanted() bool { return f.changed != nil || f.watched() }

func (f *feed) watched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers) > 0
}

// note keeps a change of this process to be told.
func (f *feed) note(c Change) { f.add(news{change: c}) }

// noteElsewhere keeps a change of another process to be told.
func (f *feed) noteElsewhere(c Change) { f.add(news{change: c, elsewhere: true}) }

// noteWarning keeps a warning to be told.
func (f *feed) noteWarning(err error) { f.add(news{warning: err}) }

func (f *feed) add(n news) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noted = append(f.noted, n)
}

// tell returns when all that its caller noted has been told. Queue.mu must not be held.
func (f *feed) tell() {
	f.telling.Lock()
	defer f.telling.Unlock()
	f.mu.Lock()
	all := f.noted
	f.noted = f.spare
	f.mu.Unlock()
	for i := range all {
		f.tellOne(&all[i])
	}
	clear(all)
	f.spare = all[:0]
}

func (f *feed) tellOne(n *news) {
	if n.warning != nil {
		f.warn(n.warning)
		return
	}
	if f.changed != nil && !n.elsewhere {
		f.changed(n.change)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		select {
		case w.c <- n.change:
		default:
			w.missed.Add(1)
		}
	}
}

// watch adds a watcher. After close, it closes it at once.
func (f *feed) watch(w *Watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		close(w.c)
		return
	}
	if f.watchers == nil {
		f.watchers = map[*Watcher]struct{}{}
	}
	f.watchers[w] = struct{}{}
}

func (f *feed) unwatch(w *Watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.watchers[w]; ok {
		delete(f.watchers, w)
		close(w.c)
	}
}

// close closes all watchers.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for w := range f.watchers {
		close(w.c)
	}
	f.watchers = nil
}

// Watcher receives the changes of a queue's deliveries.
type Watcher struct {
	C      <-chan Change // closed by Close
	c      chan Change
	missed atomic.Int64
	feed   *feed
}

// Watch returns a watcher that sees all changes from now on, each once it is stored. It keeps up to buffer changes (at least
// one) for a reader that is slow. More are dropped and counted, so that no watcher slows the work.
func (q *Queue) Watch(buffer int) *Watcher {
	w := &Watcher{c: make(chan Change, max(1, buffer)), feed: &q.feed}
	w.C = w.c
	q.feed.watch(w)
	return w
}

// Missed returns how many changes were dropped since it was last called.
func (w *Watcher) Missed() int { return int(w.missed.Swap(0)) }

// Close ends the watching. It may be called more than once.
func (w *Watcher) Close() { w.feed.unwatch(w) }
