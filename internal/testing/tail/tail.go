// Package tail keeps the end of a process's output, for the error that says how the process ended.
package tail

import (
	"bytes"
	"sync"
)

// Kept is how many bytes are kept.
const Kept = 64 << 10

// Tail is a writer that keeps the last Kept bytes. It is ready to use, and safe for concurrent use.
type Tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer. It never fails.
func (t *Tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-Kept):]
	return len(b), nil
}

// String returns what is kept, without the space around it.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
