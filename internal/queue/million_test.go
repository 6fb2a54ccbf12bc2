package queue

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/jackc/pgx/v5"

	"github.com/hubhook/hubhook/internal/queue/postgres"
	"github.com/hubhook/hubhook/internal/queue/sqlite"
	"github.com/hubhook/hubhook/internal/queue/store"
)

// million is how many deliveries a database has that counts as full.
const million = 1_000_000

// fill stores n deliveries that are done, as they are after that long under load, half of it over two endpoints, with one in a
// thousand dead, and three that wait. It writes the rows themselves, which is many times as fast as handling deliveries.
func fill(dir string, n int, over time.Duration, last time.Time) error {
	path := filepath.Join(dir, sqlite.DatabaseName)
	e, err := sqlite.Open(context.Background(), path, sqlite.Config{Warn: func(err error) { panic(err) }})
	if err != nil {
		return err
	}
	if err := e.Close(); err != nil { // with its schema
		return err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for i, name := range []string{"inbox", "trigger_training"} {
		if _, err := tx.Exec("INSERT INTO endpoint (id, name) VALUES (?, ?)", i+1, name); err != nil {
			return err
		}
	}
	first := last.UnixNano() - int64(over)
	// i is a delivery's number, at is when it was received.
	each := fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d), d(i, at) AS (SELECT i, %d + %d / %d * i FROM n) ",
		n-1, first, int64(over), n)
	const took = "1000000 + i * 7919 % 200000000" // from 1 to 201 ms
	key := fmt.Sprintf("((at / 1000000 << %d) + i %% 1000)", store.ClockBits)
	for _, q := range []string{
		`INSERT INTO delivery (id, endpoint, state, received, attempts, started, duration, scope, action, repo_type, repo_name, webhook_id, reason) ` +
			each + fmt.Sprintf(`SELECT %s, 1 + i %% 2, CASE WHEN i %% 1000 = 7 THEN 4 ELSE 3 END, at, 1, at, %s, 'repo.content', 'update', 'dataset',
			'some-user/some-data-' || (i %% 5000), printf('6653a1b2c3d4%%012x', i), CASE WHEN i %% 1000 = 7 THEN 'exit status 1' END FROM d`, key, took),
		`INSERT INTO content (id, header, body, encoding) ` + each + fmt.Sprintf(`SELECT %s, x'0a557365722d4167656e7403687562',
			printf('{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"dataset","name":"some-user/some-data-%%d","id":"%%024x"}%%600s}', i %% 5000, i, ''), 0 FROM d`, key),
		`INSERT INTO attempt (delivery, n, started, duration, error, result) ` + each + fmt.Sprintf(`SELECT %s, 1, at, %s,
			CASE WHEN i %% 1000 = 7 THEN 'exit status 1' END, '{}' FROM d WHERE i NOT IN (1, 3, 5)`, key, took),
		`UPDATE delivery SET state = 0, run_at = received, attempts = 0 WHERE id IN (SELECT id FROM delivery WHERE endpoint = 2 ORDER BY id LIMIT 3)`,
		// What is kept beside them, as a process leaves it that ended in order.
		`WITH c AS (SELECT endpoint, state, count(*) AS n FROM delivery GROUP BY 1, 2),
			counts AS (SELECT e.id, (SELECT json_group_array(coalesce(c.n, 0)) FROM
				(SELECT value FROM json_each('[0,1,2,3,4,5,6,7]')) s LEFT JOIN c ON c.endpoint = e.id AND c.state = s.value) AS states FROM endpoint e)
			INSERT OR REPLACE INTO summary (id, value) SELECT 1, CAST(json_object('last', (SELECT max(id) FROM delivery), 'low', (SELECT max(id) + 1 FROM delivery),
				'base', (SELECT max(id) + 1 FROM delivery), 'clean', json('true'), 'counts', json_group_object(id, json(states))) AS BLOB) FROM counts`,
	} {
		if _, err := tx.Exec(q); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// BenchmarkMillion reports what is slow with a million deliveries stored, in milliseconds and MiB. Its time an operation means
// nothing: go test ./internal/queue -run '^$' -bench Million -benchtime 1x
func BenchmarkMillion(b *testing.B) {
	dir := b.TempDir()
	if err := fill(dir, million, time.Hour, time.Now()); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, sqlite.DatabaseName))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size()>>20), "MiB-file")
	b.ReportMetric(0, "ns/op")
	timed := func(what string, do func()) {
		began := time.Now()
		do()
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms-"+what)
	}
	memory := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	endpoints := []Endpoint{{Name: "inbox", DedupeWindow: time.Hour}, {Name: "trigger_training", DedupeWindow: time.Hour,
		Concurrency: 1, Handle: func(ctx context.Context, _ *Claim) Outcome { <-ctx.Done(); return Outcome{Error: "ended"} }}}
	var q *Queue
	start := func(what string) {
		timed(what, func() {
			if q, err = Open(b.Context(), Config{Dir: dir, KeepCount: 2 * million}); err != nil {
				b.Fatal(err)
			}
			if _, _, err := q.Unfinished(b.Context(), 5); err != nil {
				b.Fatal(err)
			}
			if err := q.Start(endpoints); err != nil {
				b.Fatal(err)
			}
		})
	}
	accept := func() {
		r, err := q.Accept(b.Context(), Arrival{Endpoint: "inbox", WebhookID: fmt.Sprint(time.Now()), Body: []byte("{}")})
		if err != nil || r.Duplicate {
			b.Fatal(r, err)
		}
	}
	before := memory()
	start("start")
	timed("first-accept", accept)
	timed("second-accept", accept)
	b.ReportMetric(memory()-before, "MiB-memory")
	for what, f := range map[string]Filter{
		"newest":         {},
		"search-newest":  {Query: "some-data-77"},
		"search-nothing": {Query: "nothing/like-it"},
		"search-no-id":   {Query: "ZZZZ"},
		"search-prefix":  {Query: "01HZZZZZ"},
		"waiting":        {State: Waiting},
		"dead":           {State: Dead},
		"dead-search":    {State: Dead, Query: "nothing like it"},
		"scope-nothing":  {Scope: "discussion"},
		"repo-one":       {Repo: "dataset:some-user/some-data-78"},
		"repo-nothing":   {Repo: "nobody/nothing"},
		"endpoint-few":   {Endpoint: "trigger_training", State: Waiting},
	} {
		for range 2 { // the first one warms the cache
			timed(what, func() {
				if _, _, err := q.List(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
	timed("counts", func() {
		if _, err := q.Counts(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
	timed("time-series", func() {
		if _, err := q.TimeSeries(b.Context(), TimeSeriesQuery{Step: 15 * time.Minute, Steps: 96}); err != nil {
			b.Fatal(err)
		}
	})
	// An unclean end: the files as they are now, elsewhere.
	killed := b.TempDir()
	for _, end := range []string{"-wal", "-shm", ""} {
		copyFile(b, filepath.Join(dir, sqlite.DatabaseName+end), filepath.Join(killed, sqlite.DatabaseName+end))
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	dir = killed
	start("start-unclean")
	timed("first-accept-unclean", accept)
	timed("check", func() {
		db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.DatabaseName))
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		var found string
		if err := db.QueryRow("PRAGMA quick_check(1)").Scan(&found); err != nil || found != "ok" {
			b.Fatal(found, err)
		}
	})
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRetention measures how long one delivery after the other takes to be accepted, while as much as possible is removed
// and while nothing is.
func BenchmarkRetention(b *testing.B) {
	for _, removing := range []bool{false, true} {
		b.Run(fmt.Sprintf("removing=%v", removing), func(b *testing.B) {
			dir := b.TempDir()
			if err := fill(dir, 100_000, time.Hour, time.Now().Add(-time.Hour)); err != nil {
				b.Fatal(err)
			}
			q, err := Open(b.Context(), Config{Dir: dir, Keep: 30 * time.Minute, KeepCount: 2 * million})
			if err != nil {
				b.Fatal(err)
			}
			if err := q.Start([]Endpoint{{Name: "inbox"}}); err != nil {
				b.Fatal(err)
			}
			q.mu.Lock()
			q.commits.sweepAt = time.Now().Add(time.Hour)
			if removing {
				q.commits.sweepAt = time.Now()
			}
			q.commits.setAlarm()
			q.mu.Unlock()
			var took []time.Duration
			body := make([]byte, 1500)
			for b.Loop() {
				began := time.Now()
				if _, err := q.Accept(b.Context(), Arrival{Endpoint: "inbox", Body: body}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			for _, percent := range []int{50, 99} {
				b.ReportMetric(float64(took[(len(took)-1)*percent/100].Microseconds()), fmt.Sprintf("µs-p%d", percent))
			}
			counts, err := q.Counts(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(100_000+len(took)-int(counts["inbox"][Done]+counts["inbox"][Dead]+counts["trigger_training"][Done]+counts["trigger_training"][Dead])), "removed")
			if err := q.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkTimeSeries measures the time series of a day in which 100,000 deliveries were received.
func BenchmarkTimeSeries(b *testing.B) {
	const n, day = 100_000, 24 * time.Hour
	now := time.Now()
	for name, filled := range map[string]func(b *testing.B) (store.Engine, error){
		"sqlite": func(b *testing.B) (store.Engine, error) {
			dir := b.TempDir()
			if err := fill(dir, n, day, now); err != nil {
				return nil, err
			}
			return sqlite.Open(b.Context(), filepath.Join(dir, sqlite.DatabaseName), sqlite.Config{Warn: func(err error) { b.Error(err) }})
		},
		"postgres": func(b *testing.B) (store.Engine, error) {
			url := pgserver.Database(b)
			e, err := postgres.Open(b.Context(), url, postgres.Config{Warn: func(err error) { b.Error(err) }})
			if err != nil {
				return nil, err
			}
			conn, err := pgx.Connect(b.Context(), url)
			if err != nil {
				return nil, err
			}
			defer conn.Close(b.Context())
			// Only the rows that are read, as wide as they usually are.
			_, err = conn.Exec(b.Context(), `INSERT INTO hubhook.delivery (id, endpoint, state, received, attempts, started, duration,
					synthetic, scope, action, repo_type, repo_name, webhook_id)
				SELECT (lpad(to_hex(at / 1000000), 12, '0') || lpad(to_hex(i), 20, '0'))::uuid, i % 2, 3, at, 1, at, 1000000 + i * 7919 % 200000000,
					false, 'repo.content', 'update', 'dataset', 'some-user/some-data-' || i % 5000, '6653a1b2c3d4' || lpad(to_hex(i), 12, '0')
				FROM generate_series(0, $1::bigint - 1) AS i, LATERAL (SELECT $2::bigint + $3::bigint / $1::bigint * i AS at) x`,
				n, now.Add(-day).UnixNano(), int64(day))
			if err == nil {
				_, err = conn.Exec(b.Context(), "ANALYZE hubhook.delivery")
			}
			return e, err
		},
	} {
		b.Run(name, func(b *testing.B) {
			e, err := filled(b)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				steps := store.NewTimeSteps(TimeSeriesQuery{Step: 15 * time.Minute, Steps: 97, Until: now})
				if err := e.TimeSeries(b.Context(), steps.Span, "", steps.Add); err != nil {
					b.Fatal(err)
				}
				all := int64(0)
				for _, s := range steps.Result() {
					all += s.Handled
				}
				if all < n-3 { // with SQLite, three wait
					b.Fatalf("the series has %d of %d deliveries", all, n)
				}
			}
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func copyFile(b *testing.B, from, to string) {
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		b.Fatal(err)
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
}
