package payload

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnusable says that Parse could read the JSON object, but that it is no usable
// event. Every error of Parse is either an ErrUnusable or a [*SyntaxError].
var ErrUnusable = errors.New("no usable event")

// SyntaxError says that a body is not one JSON object in UTF-8.
type SyntaxError struct {
	Offset int    // where the error is, in bytes from 0
	Line   int    // the same place: its line, from 1
	Column int    // and its column, in characters from 1
	Reason string // such as "want a value, have '}'"
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("not a JSON object: line %d, column %d (byte %d): %s", e.Line, e.Column, e.Offset, e.Reason)
}

// FieldError says that a field is missing or has the wrong type or value.
type FieldError struct {
	Path string // such as repo.name
	Want string // such as "a string"
	Have string // such as "a number"
}

func (e *FieldError) Error() string {
	return e.Path + ": want " + e.Want + ", have " + e.Have
}

// UnusableError lists those of the four required fields that are not usable. It is
// an ErrUnusable.
type UnusableError struct {
	Fields []*FieldError // at least one
}

func (e *UnusableError) Error() string {
	texts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		texts[i] = f.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap makes the error an ErrUnusable and each of its Fields.
func (e *UnusableError) Unwrap() []error {
	errs := []error{ErrUnusable}
	for _, f := range e.Fields {
		errs = append(errs, f)
	}
	return errs
}

// VersionError says that a payload is of version 1 or 2, which had other fields. It
// is an ErrUnusable. Versions after 3 are no error.
type VersionError struct {
	Version int64
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("webhook.version: want 3 or later, have %d, where event is a string beside scope; "+
		"make a new webhook in the Hub's settings: it sends version 3", e.Version)
}

// Is makes the error an ErrUnusable.
func (e *VersionError) Is(target error) bool { return target == ErrUnusable }
