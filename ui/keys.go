package ui

import (
	"context"
	"fmt"
	"io"
	"os"
)

// CanReadKeys reports whether [Keys] would read from in: whether it is a terminal on a system where single keys can be read. On
// Windows they can't be, yet.
func CanReadKeys(in *os.File) bool { return canReadKeys(in) }

// Keys calls press for each key typed on the terminal in, without waiting for Enter and without showing it, until ctx ends; then it
// returns nil. Ctrl-C, Ctrl-Z and the rest keep their meaning, and the output its line ends. Arrow keys and other keys that send an
// escape sequence are left out. While the program is in the background, or stopped, keys belong to the shell. The terminal is put
// back as it was before Keys returns or panics, and while the program is stopped.
//
// Keys does nothing where [CanReadKeys] is false. It calls press from its own goroutine, one key after the other.
func Keys(ctx context.Context, in *os.File, press func(rune)) error {
	if !CanReadKeys(in) {
		return nil
	}
	if err := readKeys(ctx, in, false, press); err != nil {
		return fmt.Errorf("reading keys from the terminal: %w", err)
	}
	return nil
}

// ReadSecret reads a line from the terminal in without showing it, and returns it without its end. Ctrl-D ends a line, too. It returns ctx's error where ctx ends
// first. [CanReadKeys] has to be true.
func ReadSecret(ctx context.Context, in *os.File) (string, error) {
	read, done := context.WithCancel(ctx)
	defer done()
	var line []rune
	err := Keys(read, in, func(key rune) {
		const endOfInput, backspace, del, killLine = 0x04, 0x08, 0x7f, 0x15 // as terminals have them
		switch {
		case read.Err() != nil: // typed ahead
		case key == '\n' || key == '\r' || key == endOfInput:
			done()
		case key == backspace || key == del:
			line = line[:max(0, len(line)-1)]
		case key == killLine:
			line = nil
		default:
			line = append(line, key)
		}
	})
	if err == nil {
		err = ctx.Err()
	}
	return string(line), err
}

// ReadLine reads a line from the terminal in, which shows it and lets it be edited as it is typed, and returns it without its end. It returns
// ctx's error where ctx ends first, and io.EOF where the input ends, as with Ctrl-D. What is typed after the line is left for those who read
// next. [CanReadKeys] has to be true.
func ReadLine(ctx context.Context, in *os.File) (string, error) {
	read, done := context.WithCancel(ctx)
	defer done()
	var line []rune
	whole := false
	err := readKeys(read, in, true, func(key rune) {
		switch {
		case key == '\n':
			whole = true
			done()
		case !whole:
			line = append(line, key)
		}
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("reading a line from the terminal: %w", err)
	case whole:
		return string(line), nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	}
	return "", io.EOF
}

const escape = 0x1b

// skipEscape returns what follows the escape sequence that typed begins with.
func skipEscape(typed []byte) []byte {
	if len(typed) < 2 {
		return nil
	}
	switch typed[1] {
	case '[': // parameters, then one final byte
		for i := 2; i < len(typed); i++ {
			if typed[i] >= 0x40 {
				return typed[i+1:]
			}
		}
		return nil
	case 'O':
		return typed[min(3, len(typed)):]
	}
	return typed[2:]
}
