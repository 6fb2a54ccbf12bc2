package action

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestLookout(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("endpoints: {a: {run: 'true'}}")
	f, err := Load(path, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	l := newLookout(f, testOptions())
	// looks looks twice, and wants something new at the second.
	looks := func(what string) (*File, error) {
		t.Helper()
		if f, err, ok := l.look(); ok {
			t.Errorf("%s: told at the first look: %v, %v", what, f, err)
		}
		f, err, ok := l.look()
		if !ok {
			t.Errorf("%s: not told", what)
		}
		return f, err
	}
	quiet := func(what string) {
		t.Helper()
		for range 3 {
			if f, err, ok := l.look(); ok {
				t.Errorf("%s: told %v, %v", what, f, err)
			}
		}
	}

	quiet("nothing has changed")
	write("endpoints: {a: {run: 'true'}}")
	quiet("written again")

	write("endpoints: {a: {run: 'false'}, b: }")
	f, err = looks("a new version")
	if err != nil || len(f.Endpoints) != 2 || f.Endpoints[0].Run != "false" {
		t.Errorf("have %+v, %v", f, err)
	}
	quiet("after a new version")

	write("") // an editor empties it first
	if _, _, ok := l.look(); ok {
		t.Error("told of an empty file that will have content at once")
	}
	write("endpoints: {a: {run: 'false'}, c: }")
	f, err = looks("written in two steps")
	if err != nil || f.Endpoints[1].Name != "c" {
		t.Errorf("have %+v, %v", f, err)
	}

	write("endpoints:\n  a: {rum: 'false'}")
	_, err = looks("a broken one")
	if at, ok := errors.AsType[*FileError](err); !ok || at.Line != 2 || at.Advice != "did you mean run?" {
		t.Errorf("have %v", err)
	}
	quiet("after a broken one")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err = looks("removed"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v", err)
	}
	quiet("after the removal")

	write("endpoints: {a: {run: 'false'}, c: }")
	if f, err = looks("the last good one again"); err != nil || f.Endpoints[1].Name != "c" {
		t.Errorf("have %+v, %v", f, err)
	}
}

// A file that is created after the start is noticed, and so is another one in its place: by rename, as editors do, or by a symbolic link that
// is switched, as Kubernetes does with a ConfigMap.
func TestLookoutFollowsThePath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	_, err := Load(path, testOptions())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	l := newLookout(NoFile(path, err), testOptions())
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	quiet := func(looks int) {
		t.Helper()
		for range looks {
			if f, err, ok := l.look(); ok {
				t.Fatalf("told %v, %v", f, err)
			}
		}
	}
	told := func(name string) {
		t.Helper()
		quiet(1)
		f, err, ok := l.look()
		if !ok || err != nil || len(f.Endpoints) != 1 || f.Endpoints[0].Name != name {
			t.Errorf("told %t: %+v, %v; want %s", ok, f, err, name)
		}
		quiet(2)
	}
	quiet(3)
	try(os.WriteFile(path, []byte("endpoints: {created: }"), 0o600))
	told("created")

	other := filepath.Join(dir, ".hubhook.yaml.swp")
	try(os.WriteFile(other, []byte("endpoints: {renamed: }"), 0o600))
	try(os.Rename(other, path))
	told("renamed")

	link := func(version string) {
		t.Helper()
		try(os.Mkdir(filepath.Join(dir, version), 0o700))
		try(os.WriteFile(filepath.Join(dir, version, FileName), []byte("endpoints: {"+version+": }"), 0o600))
		if err := os.Symlink(version, filepath.Join(dir, "..tmp")); err != nil {
			t.Skip(err) // Windows, without the right to make one
		}
		try(os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	link("first")
	try(os.Remove(path))
	try(os.Symlink(filepath.Join("..data", FileName), path))
	told("first")
	link("second")
	told("second")

	// An empty file is believed later than another one.
	try(os.Remove(path))
	try(os.WriteFile(path, nil, 0o600))
	quiet(emptyLooks - 1)
	if f, err, ok := l.look(); !ok || err != nil || len(f.Endpoints) != 0 {
		t.Errorf("an empty file: told %t: %+v, %v", ok, f, err)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, []byte("endpoints: {a: }"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(path, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		Follow(ctx, f, testOptions(), func(f *File, err error) {
			if err != nil {
				told <- err.Error()
				return
			}
			told <- f.Endpoints[0].Name
		})
	}()
	if err := os.WriteFile(path, []byte("endpoints: {b: }"), 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, "the new version", func() {
		if name := <-told; name != "b" {
			t.Errorf("have %s", name)
		}
	})
	cancel()
	within(t, "the end", func() { <-done })
}
