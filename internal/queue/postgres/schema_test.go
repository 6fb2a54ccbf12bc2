package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// The call goes by position. PostgreSQL would not notice two parameters of one type that changed places.
func TestCommitPassesTheParametersThatItsFunctionHas(t *testing.T) {
	dir := t.TempDir()
	e := openTest(t, databaseOf(t, dir), Config{})
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	var has []string
	if err := e.readers.QueryRow(t.Context(), "SELECT proargnames[:pronargs] FROM pg_proc WHERE proname = 'commit_4'").Scan(&has); err != nil {
		t.Fatal(err)
	}
	var passes []string
	for _, p := range commitParams {
		passes = append(passes, p.name)
	}
	if !slices.Equal(has, passes) {
		t.Errorf("commit_4 has the parameters\n%v\nand is called with\n%v", has, passes)
	}
}

// After a vacuum that found no unfinished delivery, the planner expects one. The plans that are made then still look deliveries up by their
// ids. They don't read the entries of all unfinished deliveries.
func TestPlansOfAnEmptyTableServeALargeOne(t *testing.T) {
	const running, waiting = 1500, 1500
	b, e := openBench(t, pgserver.Database(t), Config{})
	run := func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, store.NewToken() }
	arrive := func(n int, change func(*store.Arrival)) (as []*store.Arrival) {
		for range n {
			as = append(as, b.Arrive(change))
		}
		b.Must(b.Commit(&store.Batch{Arrivals: as}))
		return as
	}
	end := func(as []*store.Arrival) {
		batch := &store.Batch{}
		for _, a := range as {
			k := b.End(a, store.Done, "")
			k.Token = a.Stored.Token
			batch.Ends = append(batch.Ends, k)
		}
		b.Must(b.Commit(batch))
		for _, k := range batch.Ends {
			if k.Lost {
				t.Fatalf("%+v", k)
			}
		}
	}
	renew := func(as []*store.Arrival) {
		var leases []store.Lease
		for _, a := range as {
			leases = append(leases, store.Lease{ID: a.Stored.ULID, Token: a.Stored.Token})
		}
		lost, err := e.Renew(t.Context(), leases)
		b.Must(err)
		if len(lost) > 0 {
			t.Errorf("lost %v", lost)
		}
	}
	read := func() (n int64) {
		t.Helper()
		flush := "SELECT pg_stat_force_next_flush()"
		_, err := e.first.writer.conn.Exec(t.Context(), flush)
		b.Must(err)
		for _, c := range e.workers.AcquireAllIdle(t.Context()) {
			_, err := c.Exec(t.Context(), flush)
			c.Release()
			b.Must(err)
		}
		b.Must(e.readers.QueryRow(t.Context(), "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'unfinished'").Scan(&n))
		return n
	}

	end(arrive(running, run))
	_, err := e.readers.Exec(t.Context(), "VACUUM (TRUNCATE false) hubhook.unfinished")
	b.Must(err)
	first := arrive(1, run)
	renew(first)
	end(first)
	arrive(1, nil)
	if claimed, _ := b.ClaimUpTo(1); len(claimed) != 1 {
		t.Fatalf("claimed %d", len(claimed))
	}

	runs := arrive(running, run)
	arrive(waiting, nil)
	for what, act := range map[string]func(){
		"end 16":   func() { end(runs[:16]) },
		"renew 16": func() { renew(runs[16:32]) },
		"claim 16": func() {
			if claimed, _ := b.ClaimUpTo(16); len(claimed) != 16 {
				t.Errorf("claimed %d", len(claimed))
			}
		},
	} {
		before := read()
		act()
		if n := read() - before; n == 0 || n > 500 {
			t.Errorf("to %s, %d entries of indexes were read", what, n)
		}
	}
}

// All placeholders of each file must be replaced, and each file must be used.
func TestSQLFilesAreComplete(t *testing.T) {
	read := 0
	for _, dir := range []string{"sql", "sql/schema"} {
		entries, err := files.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range entries {
			name, isSQL := strings.CutSuffix(strings.TrimPrefix(dir+"/"+f.Name(), "sql/"), ".sql")
			if !isSQL {
				continue
			}
			read++
			if sql := query(name); strings.ContainsAny(strings.ReplaceAll(sql, "'{}'", ""), "{}") {
				t.Errorf("%s.sql: a name in braces stands for nothing", name)
			}
			if step, ok := strings.CutPrefix(name, "schema/"); ok && !slices.ContainsFunc(migrations, func(m migration) bool { return slices.Contains(m.files, step) }) {
				t.Errorf("%s.sql: no migration has it", name)
			}
		}
	}
	if read < 20 {
		t.Errorf("%d files of SQL were found", read)
	}
}
