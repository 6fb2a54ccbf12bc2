// Package text has what every package of hubhook does with text that people read: hints that go with errors, secrets that must not show,
// and words from outside that a terminal could obey. It is a leaf: it imports nothing of ours.
package text

import (
	"errors"
	"io/fs"
	"os"
)

// WithHint returns err with a hint: one thing to do about it, which may have several lines. The text of the error stays as it is. Without
// an error, or without a hint, it returns err.
func WithHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return &hinted{err, hint}
}

// Hint returns the hint of the first error in err's chain that has a method Hint, "" if none has. Errors of WithHint have it, and so have
// the public error types of server and tunnel.
func Hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// Hint returns what to do about the error.
func (e *hinted) Hint() string { return e.hint }

// FileCause drops the operation and path of a file's error, for where the text around it names both already.
func FileCause(err error) error {
	var path *fs.PathError
	var link *os.LinkError // of a rename
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
