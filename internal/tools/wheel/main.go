// Command wheel puts a hubhook binary into a Python wheel: `pip install hubhook` and `uvx hubhook` then put that binary on PATH.
// .goreleaser.yaml runs it once for each platform. Two runs with the same arguments write the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	var w wheel
	binary := flag.String("binary", "", "the `file` to pack")
	version := flag.String("version", "", "hubhook's `version`, with or without v before it")
	seconds := flag.Int64("time", 0, "the `seconds` since 1970 that all files of the wheel are dated")
	license := flag.String("license", "LICENSE", "the `file` with the licence")
	dir := flag.String("dir", "dist", "the `directory` to write the wheel into")
	flag.StringVar(&w.goos, "os", "", "the GOOS of the binary")
	flag.StringVar(&w.goarch, "arch", "", "the GOARCH of the binary")
	flag.Parse()
	w.modified = time.Unix(*seconds, 0).UTC()
	if err := run(&w, *binary, *version, *license, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "wheel:", err)
		os.Exit(1)
	}
}

func run(w *wheel, binary, version, license, dir string) (err error) {
	if w.version, err = pythonVersion(version); err != nil {
		return err
	}
	if w.tags, err = platformTags(w.goos, w.goarch); err != nil {
		return err
	}
	if w.binary, err = os.ReadFile(binary); err != nil {
		return fmt.Errorf("read the binary: %w", err)
	}
	if w.license, err = os.ReadFile(license); err != nil {
		return fmt.Errorf("read the licence: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, w.fileName()))
	if err != nil {
		return err
	}
	if err := errors.Join(w.write(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return nil
}
