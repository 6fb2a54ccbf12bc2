package queue

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hubhook/hubhook/internal/pgserver"
)

// databaseOf returns the URL of the database that belongs to a directory, a new one if there is none.
func databaseOf(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "database")
	url, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		url = []byte(pgserver.Database(t))
		err = os.WriteFile(file, url, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(url)
}

func openTestPostgres(t *testing.T, url string, cfg postgresConfig) *postgresEngine {
	t.Helper()
	if cfg.warn == nil {
		cfg.warn = func(err error) { t.Error(err) }
	}
	e, err := openPostgres(t.Context(), url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
