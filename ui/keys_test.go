//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test program plays two more parts, in a terminal of its own: a program that reads keys, and the shell that started it.
func TestMain(m *testing.M) {
	switch os.Getenv("HUBHOOK_TEST_PART") {
	case "keys":
		playKeys()
	case "shell":
		playShell()
	default:
		os.Exit(m.Run())
	}
}

func playKeys() {
	ctx, cancel := context.WithCancel(context.Background())
	fmt.Println("begun")
	err := Keys(ctx, os.Stdin, func(key rune) {
		fmt.Printf("key %c echo %t\n", key, echoes(os.Stdin))
		if key == 'q' {
			cancel()
		}
	})
	fmt.Printf("keys ended with %v, echo %t\n", err, echoes(os.Stdin))
}

// playShell does what a shell without a line editor does: it continues in the foreground what was stopped, and leaves the terminal's
// mode alone.
func playShell() {
	signal.Ignore(unix.SIGTTOU)
	program := exec.Command(os.Args[0])
	program.Env = append(os.Environ(), "HUBHOOK_TEST_PART=keys")
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stdout, os.Stderr
	program.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	if err := program.Start(); err != nil {
		fmt.Println("shell:", err)
		return
	}
	pid := program.Process.Pid
	for {
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil {
			fmt.Println("shell:", err)
			return
		}
		if !status.Stopped() {
			fmt.Printf("shell: exit status %d\n", status.ExitStatus())
			return
		}
		if err := unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, unix.Getpgrp()); err != nil {
			fmt.Println("shell:", err)
		}
		fmt.Printf("stopped echo %t\n", echoes(os.Stdin))
		if err := unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, pid); err != nil {
			fmt.Println("shell:", err)
		}
		if err := unix.Kill(-pid, unix.SIGCONT); err != nil {
			fmt.Println("shell:", err)
		}
	}
}

func mode(f *os.File) unix.Termios {
	m, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	if err != nil {
		panic(err)
	}
	return *m
}

func echoes(f *os.File) bool { return mode(f).Lflag&unix.ECHO != 0 }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// expect reads from the terminal until want has come.
func expect(t *testing.T, shown <-chan string, want string) {
	t.Helper()
	late := time.After(patience)
	var got strings.Builder
	for !strings.Contains(got.String(), want) {
		select {
		case s, ok := <-shown:
			if !ok {
				t.Fatalf("the terminal showed %q and was closed, want %q", got.String(), want)
			}
			got.WriteString(s)
		case <-late:
			t.Fatalf("the terminal showed %q in %v, want %q", got.String(), patience, want)
		}
	}
}

func follow(master *os.File) <-chan string {
	shown := make(chan string, 1000)
	go func() {
		defer close(shown)
		b := make([]byte, 1) // byte by byte, so that nothing is lost between two expectations
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			shown <- string(b[:n])
		}
	}()
	return shown
}

func TestKeysUnderJobControl(t *testing.T) {
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	shell := exec.Command(os.Args[0])
	shell.Env = append(os.Environ(), "HUBHOOK_TEST_PART=shell")
	shell.Stdin, shell.Stdout, shell.Stderr = terminal, terminal, terminal
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	t.Cleanup(func() {
		shell.Process.Kill() // it has ended, unless the test failed
		shell.Wait()
	})
	shown := follow(master)
	typeKeys := func(keys string) {
		t.Helper()
		if _, err := io.WriteString(master, keys); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, shown, "begun\r\n")
	typeKeys("t")
	expect(t, shown, "key t echo false\r\n")
	typeKeys("\x1a")
	expect(t, shown, "stopped echo true\r\n")
	typeKeys("r")
	expect(t, shown, "key r echo false\r\n")
	typeKeys("\x1a")
	expect(t, shown, "stopped echo true\r\n")
	typeKeys("q")
	expect(t, shown, "key q echo false\r\n")
	expect(t, shown, "keys ended with <nil>, echo true\r\n")
	expect(t, shown, "shell: exit status 0\r\n")
}

// keysOn runs Keys on a terminal and returns what it presses, and its end.
func keysOn(t *testing.T, ctx context.Context) (master, terminal *os.File, pressed chan rune, ended chan error) {
	t.Helper()
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); terminal.Close() })
	pressed, ended = make(chan rune, 100), make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				ended <- fmt.Errorf("panic: %v", p)
			}
		}()
		ended <- Keys(ctx, terminal, func(key rune) {
			if key == '!' {
				panic("pressed !")
			}
			pressed <- key
		})
	}()
	return master, terminal, pressed, ended
}

func wantKeys(t *testing.T, pressed <-chan rune, want string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-pressed:
			if got != w {
				t.Errorf("pressed %q, want %q", got, w)
			}
		case <-time.After(patience):
			t.Fatalf("no key came in %v, want %q", patience, w)
		}
	}
}

func TestKeys(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreTopFunction("os/signal.loop"))
	ctx, cancel := context.WithCancel(t.Context())
	master, terminal, pressed, ended := keysOn(t, ctx)

	io.WriteString(master, "r")
	wantKeys(t, pressed, "r") // the terminal is ready once this one came

	// Arrows, a function key, Alt-x and half a letter between the keys.
	for _, typed := range []string{"t", "\x1b[A\x1bOPr", "\x1b[1;5Cc\x1bxi", "\xc3", "\xa9", "\x04"} {
		if _, err := io.WriteString(master, typed); err != nil {
			t.Fatal(err)
		}
	}
	wantKeys(t, pressed, "trcié\x04")

	m := mode(terminal)
	if m.Lflag&(unix.ICANON|unix.ECHO) != 0 {
		t.Error("the terminal collects lines or echoes while keys are read")
	}
	if m.Lflag&unix.ISIG == 0 || m.Oflag&unix.OPOST == 0 {
		t.Error("Ctrl-C or the ends of lines are lost while keys are read")
	}

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Keys: %v", err)
	}
	if m := mode(terminal); m.Lflag&unix.ICANON == 0 || m.Lflag&unix.ECHO == 0 {
		t.Error("the terminal was not put back")
	}
}

func TestKeysAfterSomebodyResetTheTerminal(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	master, terminal, pressed, ended := keysOn(t, ctx)
	io.WriteString(master, "t")
	wantKeys(t, pressed, "t")

	m := mode(terminal)
	m.Lflag |= unix.ICANON | unix.ECHO
	if err := unix.IoctlSetTermios(int(terminal.Fd()), setTermios, &m); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(unix.Getpid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	io.WriteString(master, "r")
	wantKeys(t, pressed, "r") // without Enter
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Keys: %v", err)
	}
}

func TestKeysPutTheTerminalBackOnPanic(t *testing.T) {
	master, terminal, _, ended := keysOn(t, t.Context())
	io.WriteString(master, "!")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "pressed !") {
		t.Errorf("ended with %v, want the panic", err)
	}
	if !echoes(terminal) {
		t.Error("the terminal was not put back")
	}
}

func TestKeysEndWithTheTerminal(t *testing.T) {
	master, _, pressed, ended := keysOn(t, t.Context())
	io.WriteString(master, "t")
	wantKeys(t, pressed, "t")
	master.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("Keys goes on without its terminal")
	}
}

func TestNoKeysWithoutATerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if CanReadKeys(r) || CanReadKeys(nil) {
		t.Error("a pipe has no keys")
	}
	if err := Keys(t.Context(), r, func(rune) { t.Error("a key") }); err != nil {
		t.Error(err)
	}
}

func TestReadLine(t *testing.T) {
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); terminal.Close() })
	for _, c := range []struct {
		typed, want string
		err         error
	}{
		{"2\r", "2", nil}, {"\r", "", nil}, {"x\x7fé\x1b[A\r", "é", nil}, {"\x04", "", io.EOF}, {"half\x04 done\r", "half done", nil},
	} {
		if _, err := io.WriteString(master, c.typed); err != nil {
			t.Fatal(err)
		}
		if line, err := ReadLine(t.Context(), terminal); line != c.want || !errors.Is(err, c.err) {
			t.Errorf("typed %q, read %q, %v; want %q, %v", c.typed, line, err, c.want, c.err)
		}
	}
	if !echoes(terminal) {
		t.Error("the terminal's mode was changed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if line, err := ReadLine(ctx, terminal); line != "" || !errors.Is(err, context.Canceled) {
		t.Errorf("read %q, %v, after the end", line, err)
	}

	// What is typed ahead is for those who read next.
	if _, err := io.WriteString(master, "one\rtwo\rt"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		if line, err := ReadLine(t.Context(), terminal); line != want || err != nil {
			t.Errorf("read %q, %v; want %s", line, err, want)
		}
	}
	var pressed rune
	ctx, cancel = context.WithCancel(t.Context())
	if err := Keys(ctx, terminal, func(key rune) { pressed = key; cancel() }); err != nil || pressed != 't' {
		t.Errorf("then the key %q, %v; want t", pressed, err)
	}
}
