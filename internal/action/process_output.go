package action

import (
	"io"
	"os"
	"sync"
	"time"
)

// output is the pipe into which a process prints.
type output struct {
	read *os.File

	mu sync.Mutex // held from a read to the end of its write, so that what was printed first is written first
	to io.Writer
}

// newOutput returns a pipe, and its end for the process.
func newOutput(to io.Writer) (o *output, write *os.File, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	return &output{read: read, to: to}, write, nil
}

// endWithin ends copy after d at the latest, where a process still holds the pipe open.
func (o *output) endWithin(d time.Duration) {
	if o.read.SetReadDeadline(time.Now().Add(d)) != nil { // not on Windows
		time.AfterFunc(d, func() { o.read.Close() })
	}
}
