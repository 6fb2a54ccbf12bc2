package tunnel

import (
	"context"
	"errors"
	"strings"
)

// words are the errors of a tunnel, as its provider says them.
type words struct{ options Options }

// The acts that errors of a tunnel name.
func (w words) openOp() string { return "open the " + w.options.Name + " tunnel" }
func (w words) keepOp() string { return "keep the " + w.options.Name + " tunnel open" }

// line is a foreign text in one line, without secrets.
func (w words) line(text string) string {
	if w.options.Redact != nil {
		return w.options.Redact(text)
	}
	return strings.Join(strings.Fields(text), " ")
}

// failure is why a try to come online failed.
func (w words) failure(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	e := &Error{
		Op:        w.openOp(),
		Cause:     w.line(err.Error()),
		Fix:       "check the network",
		Temporary: true,
		Err:       err,
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		e.Err = errors.New(e.Cause)
	}
	return e
}

// lossOf is why a session was lost, or could not come back by itself.
func (w words) lossOf(err error) *Error {
	if w.options.Lost != nil {
		return w.options.Lost(err)
	}
	e := *w.failure(err)
	e.Op = w.keepOp()
	return &e
}

// moved is why a session has to be replaced that is up and may not be behind its URL.
func (w words) moved(cause error) *Error {
	return &Error{
		Op:        w.keepOp(),
		Cause:     "it is opened again: " + w.line(cause.Error()),
		Fix:       w.options.Elsewhere,
		Temporary: true,
		Err:       errMoved,
	}
}
