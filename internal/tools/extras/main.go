// Command extras writes what packages of hubhook hold beside the binary: a completion script for each shell, and a man page for each
// command. .goreleaser.yaml runs it. Two runs with the same arguments write the same bytes.
package main

import (
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hubhook/hubhook/internal/cli"
)

func main() {
	dir := flag.String("dir", "bin/extras", "the `directory` to write completions/ and man/ into")
	version := flag.String("version", "devel", "the version of hubhook that the man pages name")
	seconds := flag.Int64("time", 0, "the `seconds` since 1970 that the man pages are dated")
	flag.Parse()
	if err := write(*dir, *version, time.Unix(*seconds, 0).UTC()); err != nil {
		fmt.Fprintln(os.Stderr, "extras:", err)
		os.Exit(1)
	}
}

func write(dir, version string, date time.Time) error {
	completions, man := filepath.Join(dir, "completions"), filepath.Join(dir, "man")
	for _, d := range []string{completions, man} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// Each shell looks for its script under a name of its own.
	for shell, name := range map[string]string{"bash": "hubhook.bash", "zsh": "_hubhook", "fish": "hubhook.fish", "powershell": "hubhook.ps1"} {
		if err := writeCompletion(filepath.Join(completions, name), shell); err != nil {
			return fmt.Errorf("write the completion script for %s: %w", shell, err)
		}
	}
	pages, err := manPages(version, date)
	if err != nil {
		return fmt.Errorf("write the man pages: %w", err)
	}
	for name, page := range pages {
		if err := writeCompressed(filepath.Join(man, name+".gz"), page); err != nil {
			return fmt.Errorf("write the man page %s: %w", name, err)
		}
	}
	return nil
}

// writeCompletion runs `hubhook completion SHELL`, so packages have the script that users would make themselves.
func writeCompletion(file, shell string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	status := cli.Main(context.Background(), cli.Process{
		Args: []string{"completion", shell}, Stdout: f, Stderr: os.Stderr, LookupEnv: os.LookupEnv,
	})
	if status != 0 {
		err = fmt.Errorf("hubhook completion %s: exit status %d", shell, status)
	}
	return errors.Join(err, f.Close())
}

// writeCompressed writes text as gzip without a name and a date.
func writeCompressed(file string, text []byte) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = z.Write(text)
	return errors.Join(err, z.Close(), f.Close())
}
