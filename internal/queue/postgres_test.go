package queue

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
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

// postgresBacklog is what SQLite's engine has to read back at a start. No process needs it of a database that it shares.
func postgresBacklog(ctx context.Context, e *postgresEngine, endpoint string) ([]due, error) {
	rows, err := e.readers.Query(ctx, `SELECT u.id, u.run_at, d.attempts, d.failures, d.interruptions, u.state = 2, u.serial
		FROM hubhook.unfinished u JOIN hubhook.delivery d ON d.id = u.id
		WHERE u.endpoint = $1 AND u.state <> 1 ORDER BY u.run_at, u.id`, keyHash(endpoint))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d due, err error) {
		var id pgtype.UUID
		err = row.Scan(&id, &d.at, &d.attempts, &d.failures, &d.interruptions, &d.retrying, &d.serial)
		d.id = id.Bytes
		return d, err
	})
}

// What was claimed is one of an endpoint that this process serves: its name is known without asking the server, which may be gone by then.
func TestClaimKnowsItsEndpoints(t *testing.T) {
	url := pgserver.Database(t)
	one, two := openTestPostgres(t, url, postgresConfig{}), openTestPostgres(t, url, postgresConfig{})
	b := &bench{T: t, engine: one, now: time.Now().Add(-time.Hour).Truncate(time.Millisecond)}
	b.store(nil)
	if _, err := two.workers.Exec(t.Context(), "DELETE FROM hubhook.endpoint"); err != nil {
		t.Fatal(err)
	}
	claimed, _, err := two.claim(t.Context(), []want{{endpoint: "inbox", n: 1}})
	if err != nil || len(claimed) != 1 || claimed[0].Endpoint != "inbox" {
		t.Errorf("claimed are %+v, %v; want one of inbox", claimed, err)
	}
	for _, e := range []*postgresEngine{one, two} {
		if err := e.close(); err != nil {
			t.Error(err)
		}
	}
}
