package store

import "errors"

// The errors of a store. Test with errors.Is.
var (
	// ErrNotFound: no delivery has this ID.
	ErrNotFound = errors.New("no such delivery")
	// ErrDiskFull: the queue can't be opened because the disk is full.
	ErrDiskFull = errors.New("the disk is full")
	// ErrMarkMoved: a mark was not stored, because it has another version by now.
	ErrMarkMoved = errors.New("another process, or an earlier try, has changed the mark")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the queue is closed")
)

// DiskFull returns an error that is both err and ErrDiskFull.
func DiskFull(err error) error { return &fullError{err} }

type fullError struct{ err error }

func (e *fullError) Error() string { return e.err.Error() }
func (e *fullError) Unwrap() error { return e.err }

func (e *fullError) Is(target error) bool { return target == ErrDiskFull }
