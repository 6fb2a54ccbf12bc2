package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
)

// Of what an attempt prints, so many bytes of its beginning and of its end are kept.
const (
	outputHead = 16 << 10
	outputTail = 48 << 10
)

// endedOutputs is how many outputs of attempts that have ended are kept at hand until they are stored.
const endedOutputs = 16

// ErrAttemptEnded is the error of writing to [Output] once the attempt has ended, for example from a goroutine that outlives its handler. Test
// with errors.Is.
var ErrAttemptEnded = errors.New("the attempt has ended, and its output is closed")

// Output returns a writer for what people should see of a handler's work. ctx is the handler's context:
//
//	fmt.Fprintln(server.Output(ctx), "epoch 3 of 10")
//	logger := log.New(server.Output(ctx), "", log.LstdFlags)
//
// The text is kept with the attempt, however that ends, and the inspector of this process shows it while the handler runs. The first 16 KiB
// and the last 48 KiB are kept; a line between them says how many bytes were left out. Configured secrets are replaced, and so are bytes
// that are not UTF-8.
//
// The writer never blocks, and several goroutines may use it. Once the attempt has ended it fails with [ErrAttemptEnded]. For any other
// context Output returns io.Discard.
func Output(ctx context.Context) io.Writer {
	if w := workOf(ctx); w != nil {
		return w.out()
	}
	return io.Discard
}

// work is the context of one attempt.
type work struct {
	context.Context
	server *Server
	claim  *queue.Claim
	output atomic.Pointer[output] // nil until something asks for it: most handlers print nothing
}

type workKey struct{}

// Value implements context.Context.
func (w *work) Value(key any) any {
	if key == (workKey{}) {
		return w
	}
	return w.Context.Value(key)
}

// workOf returns the attempt that ctx belongs to, nil if it is no handler's.
func workOf(ctx context.Context) *work {
	w, _ := ctx.Value(workKey{}).(*work)
	return w
}

// closedOutput is that of an attempt which ended before anything asked for its output.
var closedOutput = &output{ended: true}

func (w *work) out() *output {
	if o := w.output.Load(); o != nil {
		return o
	}
	o := &output{delivery: w.claim.ID, n: w.claim.Attempt, hide: w.server.secrets.hide, printed: w.server.printed, through: w.server.through}
	if !w.output.CompareAndSwap(nil, o) {
		return w.output.Load()
	}
	w.server.outputs.add(o)
	return o
}

// closeOutput ends the output and returns what is kept of it, nil if nothing was printed. It is called once.
func (w *work) closeOutput() []byte {
	if w.output.CompareAndSwap(nil, closedOutput) {
		return nil
	}
	o := w.output.Load()
	text := o.close()
	w.server.outputs.ended(o)
	return text
}

// output is what one attempt prints. Its texts are UTF-8 without secrets.
type output struct {
	delivery string
	n        int
	hide     *text.Redactor
	printed  func(*output) // told that there is more
	through  io.Writer     // gets all of it, too; nil for nobody

	mu      sync.Mutex
	ended   bool
	pending []byte // may be the beginning of a secret or of a character
	head    []byte
	full    bool   // what follows goes to tail
	tail    []byte // up to twice what is kept
	total   int64  // bytes of all that was printed, what is pending not counted
	told    int64  // bytes of it that Next has gone past
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if err := o.add(p); err != nil {
		return 0, err
	}
	o.printed(o)
	return len(p), nil
}

func (o *output) add(p []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return ErrAttemptEnded
	}
	o.pending = append(o.pending, p...)
	o.settle(false)
	return nil
}

// settle keeps what is pending, but for what may yet turn out to be the beginning of something, unless it is final.
func (o *output) settle(final bool) {
	text, from, i := o.pending, 0, 0
	replace := func(size int, with string) {
		o.keep(text[from:i])
		o.keep([]byte(with))
		i += size
		from = i
	}
	for i < len(text) {
		if o.hide.Starts(text[i]) {
			size, more := o.hide.Match(text[i:])
			if more && !final {
				break
			}
			if size > 0 {
				replace(size, o.hide.Mask())
				continue
			}
		}
		if text[i] < utf8.RuneSelf {
			i++
			continue
		}
		if !final && !utf8.FullRune(text[i:]) {
			break
		}
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			replace(size, string(utf8.RuneError))
			continue
		}
		i += size
	}
	o.keep(text[from:i])
	o.pending = append(o.pending[:0], text[i:]...)
	if cap(o.pending) > outputTail { // one large piece is no reason to hold so much
		o.pending = append([]byte(nil), o.pending...)
	}
}

// keep adds whole characters to the head, or else to the tail.
func (o *output) keep(text []byte) {
	o.total += int64(len(text))
	if o.through != nil {
		o.through.Write(text) // what is kept does not depend on who else reads it
	}
	if !o.full {
		if len(o.head)+len(text) <= outputHead {
			o.head = append(o.head, text...)
			return
		}
		fits := wholeCharacters(text, outputHead-len(o.head))
		o.head, text, o.full = append(o.head, text[:fits]...), text[fits:], true
	}
	if len(text) > outputTail {
		text = lastCharacters(text, outputTail)
		o.tail = o.tail[:0]
	}
	o.tail = append(o.tail, text...)
	if len(o.tail) > 2*outputTail {
		o.tail = append(o.tail[:0], lastCharacters(o.tail, outputTail)...)
	}
}

// wholeCharacters returns the length of the longest beginning of text, at most size bytes, that ends with a whole character.
func wholeCharacters(text []byte, size int) int {
	if size >= len(text) {
		return len(text)
	}
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return size
}

// lastCharacters returns the end of text, at most size bytes, from the beginning of a character on.
func lastCharacters(text []byte, size int) []byte {
	text = text[max(0, len(text)-size):]
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return text
}

// close takes nothing more and returns what is kept, nil if nothing was printed.
func (o *output) close() []byte {
	o.mu.Lock()
	o.settle(true)
	o.ended = true
	text := o.kept()
	o.mu.Unlock()
	if text != nil {
		o.printed(o)
	}
	return text
}

// kept returns a copy of what is kept. The caller holds the mutex.
func (o *output) kept() []byte {
	end := lastCharacters(o.tail, outputTail)
	left := o.total - int64(len(o.head)+len(end))
	switch {
	case o.total == 0:
		return nil
	case left == 0:
		return append(append(make([]byte, 0, o.total), o.head...), end...)
	}
	return append(fmt.Appendf(append([]byte(nil), o.head...), "\n[... %d bytes left out ...]\n", left), end...)
}

// soFar returns what is kept by now, and how many bytes were printed in all.
func (o *output) soFar() (text string, total int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.kept()), o.total
}

// Next implements inspector.Output.
func (o *output) Next(most int) (piece api.OutputEvent, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	rest := o.tail
	if at := o.told; at < int64(len(o.head)) {
		rest = o.head[at:]
	} else if start := o.total - int64(len(o.tail)); at > start {
		rest = o.tail[at-start:]
	} else {
		o.told = start // what was in between is lost to those who watch
	}
	rest = rest[:wholeCharacters(rest, most)]
	if len(rest) == 0 {
		return api.OutputEvent{}, false
	}
	piece = api.OutputEvent{Delivery: o.delivery, N: o.n, Offset: o.told, Text: string(rest)}
	o.told += int64(len(rest))
	return piece, true
}

// outputs finds the outputs of running attempts, and of some that have ended and may not be stored yet.
type outputs struct {
	mu    sync.Mutex
	byKey map[outputKey]*output
	late  []*output // ended, oldest first
}

type outputKey struct {
	delivery string
	n        int
}

func (o *output) key() outputKey { return outputKey{o.delivery, o.n} }

func (s *outputs) add(o *output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey == nil {
		s.byKey = map[outputKey]*output{}
	}
	s.byKey[o.key()] = o
}

// ended has o forgotten once enough others have ended.
func (s *outputs) ended(o *output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late = append(s.late, o); len(s.late) <= endedOutputs {
		return
	}
	if oldest := s.late[0]; s.byKey[oldest.key()] == oldest {
		delete(s.byKey, oldest.key())
	}
	s.late = append(s.late[:0], s.late[1:]...)
}

func (s *outputs) get(delivery string, n int) *output {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byKey[outputKey{delivery, n}]
}

// printed tells the inspector, where there is one, that o has more.
func (s *Server) printed(o *output) {
	if private := s.private.Load(); private != nil {
		private.Printed(o)
	}
}

// liveOutput is inspector.Config.Output.
func (s *Server) liveOutput(delivery string, n int) (text string, total int64) {
	if o := s.outputs.get(delivery, n); o != nil {
		return o.soFar()
	}
	return "", 0
}
