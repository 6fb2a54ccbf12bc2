package postgres

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

	"github.com/hubhook/hubhook/internal/queue/store"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"
)

// databaseOf returns the URL of the database for a directory. It makes a new database at the first call.
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

func openTest(t *testing.T, url string, cfg Config) *Engine {
	t.Helper()
	if cfg.Warn == nil {
		cfg.Warn = func(err error) { t.Error(err) }
	}
	e, err := Open(t.Context(), url, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// backlogOf returns the backlog of an endpoint. On SQLite a process reads it when it starts; on a shared database no process needs it.
func backlogOf(ctx context.Context, e *Engine, endpoint string) ([]store.Due, error) {
	rows, err := e.readers.Query(ctx, `SELECT u.id, u.run_at, d.attempts, d.failures, d.interruptions, u.state = 2, u.serial
		FROM hubhook.unfinished u JOIN hubhook.delivery d ON d.id = u.id
		WHERE u.endpoint = $1 AND u.state <> 1 ORDER BY u.run_at, u.id`, store.Hash(endpoint))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d store.Due, err error) {
		var id pgtype.UUID
		err = row.Scan(&id, &d.At, &d.Attempts, &d.Failures, &d.Interruptions, &d.Retrying, &d.Serial)
		d.ID = id.Bytes
		return d, err
	})
}

func TestConformance(t *testing.T) {
	storetest.Suite{
		Open: func(t *testing.T, dir string) store.Engine {
			return openTest(t, databaseOf(t, dir), Config{lease: 150 * time.Millisecond})
		},
		Left: func(ctx context.Context, e store.Engine, endpoint string) ([]store.Due, error) {
			return backlogOf(ctx, e.(*Engine), endpoint)
		},
	}.Run(t)
}

func TestSharing(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T, dir string, lease time.Duration) store.Engine {
		return openTest(t, databaseOf(t, dir), Config{lease: lease})
	})
}

// A claimed delivery belongs to an endpoint that this process serves. So its name is known without a query; the server may be gone by then.
func TestClaimKnowsItsEndpoints(t *testing.T) {
	url := pgserver.Database(t)
	one, two := openTest(t, url, Config{}), openTest(t, url, Config{})
	b := &storetest.Bench{T: t, Engine: one, Now: time.Now().Add(-time.Hour).Truncate(time.Millisecond)}
	b.Store(nil)
	if _, err := two.workers.Exec(t.Context(), "DELETE FROM hubhook.endpoint"); err != nil {
		t.Fatal(err)
	}
	claimed, _, err := two.Claim(t.Context(), []store.Want{{Endpoint: "inbox", N: 1}})
	if err != nil || len(claimed) != 1 || claimed[0].Endpoint != "inbox" {
		t.Errorf("claimed are %+v, %v; want one of inbox", claimed, err)
	}
	for _, e := range []*Engine{one, two} {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestManyEndsAreVacuumed(t *testing.T) {
	b, e := openBench(t, pgserver.Database(t), Config{})
	vacuumed := func() (yes bool) {
		b.Must(e.readers.QueryRow(t.Context(), "SELECT reltuples >= 0 FROM pg_class WHERE oid = 'hubhook.unfinished'::regclass").Scan(&yes))
		return yes
	}
	e.ended.Store(vacuumAfter - 1)
	a := b.Store(storetest.In(store.Running))
	if vacuumed() {
		t.Fatal("vacuumed before that many attempts have ended")
	}
	b.Must(b.Commit(&store.Batch{Ends: []*store.End{b.End(a, store.Done, "")}}))
	storetest.Eventually(t, vacuumed)
	if n := e.ended.Load(); n != 0 {
		t.Errorf("%d attempts have ended since the vacuum", n)
	}
}
