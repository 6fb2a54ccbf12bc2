//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package ui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

func canReadKeys(in *os.File) bool {
	return in != nil && term.IsTerminal(int(in.Fd()))
}

// keyMode is the terminal's mode while keys are read.
type keyMode struct {
	fd      int
	asFound bool // and stays so

	mu     sync.Mutex
	before *unix.Termios // nil while the terminal is as we found it
}

// enter has keys come one by one and unseen. ISIG and OPOST stay as they are, so that Ctrl-C works and lines end where they should.
func (m *keyMode) enter() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asFound {
		return nil
	}
	if !inForeground(m.fd) {
		return nil // touching the terminal would stop the process
	}
	now, err := unix.IoctlGetTermios(m.fd, getTermios)
	if err != nil {
		return fmt.Errorf("asking for its mode: %w", err)
	}
	keys := *now
	keys.Lflag &^= unix.ICANON | unix.ECHO
	keys.Cc[unix.VMIN], keys.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(m.fd, setTermios, &keys); err != nil {
		return fmt.Errorf("setting its mode: %w", err)
	}
	if m.before == nil {
		m.before = now
	}
	return nil
}

// leave puts the terminal back.
func (m *keyMode) leave() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.before == nil || !inForeground(m.fd) {
		return nil // in the background it is the shell's, which has set its own mode
	}
	if err := unix.IoctlSetTermios(m.fd, setTermios, m.before); err != nil {
		return fmt.Errorf("restoring its mode: %w", err)
	}
	m.before = nil
	return nil
}

// inForeground reports whether this process may use the terminal. One that isn't the terminal that controls this process has no
// foreground for us, and no shell that waits for it.
func inForeground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// readKeys reads keys one by one, or with byLine line by line, in the terminal's own mode.
func readKeys(ctx context.Context, in *os.File, byLine bool, press func(rune)) (err error) {
	m := &keyMode{fd: int(in.Fd()), asFound: byLine}
	wakeRead, wake, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("opening a pipe to be woken by: %w", err)
	}
	defer wakeRead.Close()
	defer wake.Close()
	if max(m.fd, int(wakeRead.Fd())) >= unix.FD_SETSIZE {
		return fmt.Errorf("too many files are open to wait for keys (descriptor %d)", max(m.fd, int(wakeRead.Fd())))
	}

	// Signals first: a stop between enter and Notify would leave the shell with our mode.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTSTP, unix.SIGCONT)
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer func() {
		cancel()
		watching.Wait()
		signal.Stop(signals)
		err = errors.Join(err, m.leave())
	}()
	if err := m.enter(); err != nil {
		return err
	}
	trouble := make(chan error, 1)
	watching.Go(func() {
		for {
			select {
			case <-ctx.Done():
				wake.Write([]byte{0}) // room for it is all that is needed, and a full pipe wakes as well
				return
			case sig := <-signals:
				err := m.leaveOrEnter(sig)
				if err != nil {
					select {
					case trouble <- err:
					default:
					}
				}
				wake.Write([]byte{0})
			}
		}
	})

	var typed []byte
	chunk := make([]byte, 256)
	background := false
	for {
		var ready unix.FdSet
		ready.Set(int(wakeRead.Fd()))
		last := int(wakeRead.Fd())
		var patience *unix.Timeval
		if inForeground(m.fd) {
			if background {
				if err := m.enter(); err != nil {
					return err
				}
			}
			background = false
			ready.Set(m.fd)
			last = max(last, m.fd)
		} else {
			// A shell that brings a running job to the foreground sends it no signal.
			background = true
			patience = &unix.Timeval{Sec: 1}
		}
		if _, err := unix.Select(last+1, &ready, nil, nil, patience); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return fmt.Errorf("waiting for a key: %w", err)
		}
		if ready.IsSet(int(wakeRead.Fd())) {
			if _, err := wakeRead.Read(chunk); err != nil {
				return fmt.Errorf("waiting for a key: %w", err)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		select {
		case err := <-trouble:
			return err
		default:
		}
		// The program may have been sent to the background since: a read there would stop it.
		if !ready.IsSet(m.fd) || !inForeground(m.fd) {
			continue
		}
		n, err := unix.Read(m.fd, chunk)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue
		case n <= 0:
			return nil // the terminal has gone away, and the keys with it
		}
		typed = pressAll(append(typed, chunk[:n]...), press)
	}
}

// pressAll reports the keys in typed and returns the beginning of one that has not come whole.
func pressAll(typed []byte, press func(rune)) []byte {
	for len(typed) > 0 {
		if typed[0] == escape {
			typed = skipEscape(typed)
			continue
		}
		if !utf8.FullRune(typed) {
			return typed
		}
		key, size := utf8.DecodeRune(typed)
		typed = typed[size:]
		if key != utf8.RuneError {
			press(key)
		}
	}
	return nil
}

// leaveOrEnter follows the shell's job control.
func (m *keyMode) leaveOrEnter(sig os.Signal) error {
	if sig == unix.SIGCONT {
		return m.enter()
	}
	if err := m.leave(); err != nil {
		return err
	}
	// Go keeps its handler for a signal that was once asked for, so that a second SIGTSTP would be lost. SIGTTIN stops a program on
	// the same terms: not at all if there is no shell that could continue it.
	if err := unix.Kill(unix.Getpid(), unix.SIGTTIN); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	// The signal may reach another thread a moment after Kill has returned; the terminal is the shell's from then on.
	time.Sleep(100 * time.Millisecond)
	return m.enter()
}
