package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/ui"
)

// addData gives cmd the flag --data of commands that read a data directory themselves.
func addData(cmd *cobra.Command) *string {
	return cmd.Flags().String("data", "", "data `DIR` of hubhook (default that of this working directory)")
}

// workspace returns the directory that holds the data directories of this working directory's programs.
func (p *program) workspace() (string, error) {
	dir, err := env.Workspace(p.LookupEnv)
	return dir, text.WithHint(err, "name one with --data DIR")
}

// dataDirectory returns dir, or without one the data directory of hubhook in this working directory, or else of the one
// program that has one here. Nothing needs to run.
func (p *program) dataDirectory(dir string) (string, error) {
	if dir = cmp.Or(dir, p.dataOfFile()); dir != "" {
		return dir, nil
	}
	workspace, err := p.workspace()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(workspace, "*", "hubhook.db*"))
	if err != nil {
		return "", fmt.Errorf("look for data directories in %s: %w", workspace, err)
	}
	var dirs []string
	for _, file := range found {
		if d := filepath.Dir(file); len(dirs) == 0 || dirs[len(dirs)-1] != d {
			dirs = append(dirs, d)
		}
	}
	for _, d := range dirs {
		if filepath.Base(d) == "hubhook" || len(dirs) == 1 {
			return d, nil
		}
	}
	if len(dirs) == 0 {
		return "", text.WithHint(fmt.Errorf("no hubhook that was started in this directory has stored anything (none in %s)", workspace),
			"name the data directory with --data DIR; what --database keeps in PostgreSQL is saved with tools of its own, such as pg_dump")
	}
	return "", text.WithHint(fmt.Errorf("%d programs have data of this working directory", len(dirs)),
		"name one of them:\n--data "+strings.Join(dirs, "\n--data "))
}

// explainLocal adds to an error of a command that reads a data directory itself what to do about it.
func explainLocal(err error) error {
	var locked *queue.LockedError
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.As(err, &locked):
		return text.WithHint(err, "stop that process first")
	}
	return err
}

// meter shows on a terminal how far something has come, on a line that it takes away at the end.
type meter struct {
	*program
	doing string
	shown int // percent; -1 before the first
}

// meter returns what shows progress on standard error, nil where that is no terminal.
func (p *program) meter(doing string) *meter {
	if ui.NewInk(p.Stderr).Width() == 0 {
		return nil
	}
	return &meter{program: p, doing: doing, shown: -1}
}

func (m *meter) show(done, total int64) {
	if percent := int(done * 100 / max(total, 1)); percent != m.shown {
		m.shown = percent
		fmt.Fprintf(m.Stderr, "\r%s: %d %%", m.doing, percent) // nobody is left to tell that it failed
	}
}

func (m *meter) end() {
	if m != nil && m.shown >= 0 {
		fmt.Fprintf(m.Stderr, "\r%s\r", strings.Repeat(" ", len(m.doing)+len(": 100 %")))
	}
}

// countOf writes a number of things.
func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
