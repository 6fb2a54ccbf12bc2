package action

import (
	"bytes"
	"context"
	"time"
)

// fileEvery is how often a configuration file is looked at. Reading a small file costs less than to be told of its changes by every kind
// of editor, mount and symbolic link.
const fileEvery = 500 * time.Millisecond

// emptyLooks is how often an empty file is seen before it counts: a program that writes slowly has emptied it, more likely than not.
const emptyLooks = 6

// Follow calls changed with each new version of the file that f was loaded from, or that was missing, until ctx ends: with a File in which
// everything is checked, or with what is wrong with it, a *FileError for what stands in it. It goes by the path and the content, so a file
// that is merely written again is no new version, and one that takes the place of another is: by rename, or behind a symbolic link. A version is
// taken up once it has stood unchanged for half a second, since editors empty a file before they write it. Follow closes no File.
func Follow(ctx context.Context, f *File, options Options, changed func(*File, error)) {
	l := newLookout(f, options)
	tick := time.NewTicker(fileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if f, err, ok := l.look(); ok {
				changed(f, err)
			}
		}
	}
}

// lookout knows what a file has in it.
type lookout struct {
	path    string
	options Options
	known   content // the version that was told last
	fresh   content // the version that was seen last
	looks   int     // how often fresh was seen
}

// content is what reading a file has brought.
type content struct {
	text    []byte
	problem string // why it can't be read
}

func (c content) is(other content) bool {
	return c.problem == other.problem && bytes.Equal(c.text, other.text)
}

func newLookout(f *File, options Options) *lookout {
	return &lookout{path: f.Path, options: options, known: f.content, fresh: f.content}
}

// look reads the file. ok is true where there is a new version, or a new problem.
func (l *lookout) look() (f *File, problem error, ok bool) {
	text, err := readConfiguration(l.path)
	now := content{text: text}
	if err != nil {
		now = content{problem: err.Error()}
	}
	if !now.is(l.fresh) {
		l.fresh, l.looks = now, 0
	}
	l.looks++
	needed := 2
	if err == nil && len(bytes.TrimSpace(text)) == 0 {
		needed = emptyLooks
	}
	if now.is(l.known) || l.looks < needed {
		return nil, nil, false
	}
	l.known = now
	if err == nil {
		f, err = parseFile(l.path, text, l.options)
	}
	return f, err, true
}
