package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/oklog/ulid/v2"
)

// ownServer starts a server for one test, with a database d.
func ownServer(t *testing.T) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(t.Context())
	pgserver.Need(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.CreateDatabase(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	return s
}

// postgresBench is a bench on an engine that is closed when the test ends.
func postgresBench(t *testing.T, url string, cfg postgresConfig) (*bench, *postgresEngine) {
	t.Helper()
	e := openTestPostgres(t, url, cfg)
	t.Cleanup(func() {
		if err := e.close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{T: t, engine: e, now: time.Now().Add(-time.Hour)}
	b.ids.random = ulid.Monotonic(ulid.DefaultEntropy(), 0)
	return b, e
}

// total is how many deliveries are stored.
func (b *bench) total() (n int64) {
	b.Helper()
	counts, err := b.counts(b.Context())
	b.must(err)
	for _, states := range counts {
		for _, k := range states {
			n += k
		}
	}
	return n
}

// TestPostgresLostConnections has connections end under load: each commit is looked up on the next one, so none fails, none
// is made twice, and each has its results.
func TestPostgresLostConnections(t *testing.T) {
	s := ownServer(t)
	b, _ := postgresBench(t, s.URL("d"), postgresConfig{tries: 30 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	var killing sync.WaitGroup
	var kills atomic.Int32
	killing.Go(func() {
		for ctx.Err() == nil {
			if err := s.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hubhook'"); err != nil {
				t.Error(err)
				return
			}
			kills.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	held := func(a *arrival) { a.burst = &burst{key: 1, wait: time.Hour} }
	last := b.store(held)
	stored := int64(1)
	for end := time.Now().Add(time.Second); time.Now().Before(end) || kills.Load() < 3; stored += 2 {
		fresh := b.arrive(func(a *arrival) { a.d.WebhookID, a.dedupe = a.d.ID, true })
		again := b.arrive(func(a *arrival) { a.d.WebhookID, a.dedupe = fresh.d.ID, true })
		next := b.arrive(held)
		b.must(b.commit(&batch{arrivals: []*arrival{fresh, again, next}}))
		if fresh.first != nil || again.first == nil || again.first.ID != fresh.d.ID || again.first.Duplicates != 1 {
			t.Fatalf("the firsts are %v and %v", fresh.first, again.first)
		}
		if next.merged == nil || next.merged.id != last.d.id || next.runAt.Sub(next.d.Received) != time.Hour {
			t.Fatalf("merged is %v, due at %v; want %s", next.merged, next.runAt, last.d.ID)
		}
		last = next
	}
	cancel()
	killing.Wait()
	if n := b.total(); n != stored {
		t.Errorf("%d are stored, want %d; connections were ended %d times", n, stored, kills.Load())
	}
}

// TestPostgresStandsStill stops the server, and lets it go on: what was answered with an error does not come back by itself.
func TestPostgresStandsStill(t *testing.T) {
	s := ownServer(t)
	b, e := postgresBench(t, s.URL("d"), postgresConfig{tries: 300 * time.Millisecond, lease: time.Second})
	runs := b.store(func(a *arrival) { a.d.State, a.d.token = Running, 77 })
	for range 3 {
		kept := b.store(nil)
		b.must(s.Pause())
		stuck := b.arrive(func(a *arrival) { a.d.WebhookID, a.dedupe = "w"+a.d.ID, true })
		began := time.Now()
		err := b.commit(&batch{arrivals: []*arrival{stuck}})
		if err == nil || !b.outage(err) {
			t.Fatalf("with the server stopped, a commit gives %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		later := b.arrive(nil)
		began = time.Now()
		err = b.commit(&batch{arrivals: []*arrival{later}})
		if took := time.Since(began); err == nil || !b.outage(err) || took > 100*time.Millisecond {
			t.Errorf("a later one gives %v after %v", err, took)
		}
		b.forget([]ulid.ULID{stuck.d.id, later.d.id})
		b.must(s.Continue())
		eventually(t, func() bool { return b.commit(&batch{arrivals: []*arrival{b.arrive(nil)}}) == nil })
		for name, a := range map[string]*arrival{"stuck": stuck, "later": later} {
			if _, err := b.get(t.Context(), a.d.id); !errors.Is(err, ErrNotFound) {
				t.Errorf("the %s one came back: %v", name, err)
			}
		}
		if again := b.store(func(a *arrival) { a.d.WebhookID, a.dedupe = "w"+stuck.d.ID, true }); again.first != nil {
			t.Errorf("the retry of what was refused is a duplicate of %+v", again.first)
		}
		if b.state(kept) != Waiting {
			t.Errorf("one that was stored is %s", b.state(kept))
		}
	}
	// Nobody may take a claim over until its owner has had the time to renew it.
	b.must(s.Pause())
	if _, err := e.renew(t.Context(), nil); err == nil {
		t.Error("a server that stands still has renewed claims")
	}
	b.must(s.Continue())
	eventually(t, func() bool {
		_, err := e.renew(t.Context(), nil)
		return err == nil
	})
	if e.mayTakeOver() {
		t.Error("right after an outage, a claim that nobody could renew may be taken over")
	}
	b.interruptAll()
	if b.state(runs) != Waiting {
		t.Errorf("a claim that nobody renews is %s in the end", b.state(runs))
	}
}

// What a server that stands still was sent it does when it goes on, whatever became of the sender meanwhile: it takes nothing over that its
// owner had no chance to renew, and an outcome that it stores is not taken for another process's.
func TestPostgresDoesLateWhatItWasSent(t *testing.T) {
	s := ownServer(t)
	b, e := postgresBench(t, s.URL("d"), postgresConfig{tries: 300 * time.Millisecond, lease: 2 * time.Second})
	running := func(token int64) *arrival {
		return b.store(func(a *arrival) { a.d.State, a.d.token = Running, token })
	}
	runs, ends := running(77), running(78)
	e.good.Store(time.Now().Add(-time.Hour).UnixNano())
	e.renewed.Store(time.Now().UnixNano())
	if !e.mayTakeOver() {
		t.Fatal("nothing would be taken over in any case")
	}
	if _, _, err := e.claim(t.Context(), nil); err != nil { // connects
		t.Fatal(err)
	}
	b.must(s.Pause())
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := e.claim(short, nil); err == nil {
		t.Error("a server that stands still has answered a claim")
	}
	k := b.end(ends, Done, "")
	k.token = 78
	if err := b.commit(&batch{ends: []*ending{k}}); err == nil {
		t.Error("a server that stands still has stored an outcome")
	}
	time.Sleep(e.cfg.lease) // until the claims have expired, by the server's clock
	b.must(s.Continue())
	eventually(t, func() bool { return b.commit(&batch{ends: []*ending{k}}) == nil })
	if k.lost || b.state(ends) != Done {
		t.Errorf("the outcome is lost: %t; the delivery is %s", k.lost, b.state(ends))
	}
	// Those connections have ended once the server has done what came through them.
	eventually(t, func() bool {
		var busy int
		b.must(e.readers.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = 'hubhook' AND state = 'active' AND pid <> pg_backend_pid()`).Scan(&busy))
		return busy == 0
	})
	if b.state(runs) != Running {
		t.Errorf("a claim that its owner could not renew is %s", b.state(runs))
	}
	other := b.end(runs, Done, "")
	other.token = 79
	b.ends(other)
	if !other.lost {
		t.Error("an outcome without its claim is not lost")
	}
}

// What was stored though its sender was told otherwise goes, unless another sender was answered as its duplicate meanwhile.
func TestPostgresKeepsWhatOthersAreDuplicatesOf(t *testing.T) {
	b, e := postgresBench(t, pgserver.Database(t), postgresConfig{})
	named := func(id string) *arrival {
		return b.store(func(a *arrival) { a.d.State, a.d.token, a.d.WebhookID, a.dedupe = Running, 77, id, true })
	}
	alone, first := named("alone"), named("first")
	if second := named("first"); second.first == nil || second.first.ID != first.d.ID {
		t.Fatalf("the second one is a duplicate of %+v", second.first)
	}
	e.mu.Lock()
	for _, a := range []*arrival{alone, first} {
		e.forgotten[a.d.id] = a.d.token
	}
	e.mu.Unlock()
	b.store(nil)
	if _, err := b.get(t.Context(), alone.d.id); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was refused is still there: %v", err)
	}
	if _, err := b.get(t.Context(), first.d.id); err != nil {
		t.Errorf("the one that another was answered as a duplicate of is gone: %v", err)
	}
}

func TestPostgresOpenErrors(t *testing.T) {
	url := pgserver.Database(t)
	s := pgserver.Shared(t)
	password := "correct%20horse"
	if !strings.Contains(url, password) {
		t.Fatal("the password is another one by now")
	}
	secret := strings.Replace(url, password, "top%2Dsecret", 1)
	host := fmt.Sprintf("127.0.0.1:%d", s.Port)
	prefer := func(url string) string { return strings.Replace(url, "sslmode=disable", "sslmode=prefer", 1) }
	for name, c := range map[string]struct{ url, want, hint string }{
		"password without TLS": {prefer(secret), "password authentication failed", "pg_hba.conf"},
		"database without TLS": {prefer(strings.Replace(url, "?", "x?", 1)), "does not exist", "CREATE DATABASE"},
		"TLS":                  {strings.Replace(url, "sslmode=disable", "sslmode=require", 1), "refused TLS", "set sslmode"},
		"password":             {secret, "password authentication failed", "pg_hba.conf"},
		"host":                 {strings.Replace(secret, host, "127.0.0.1:1", 1), "refused", "can be reached"},
		"name":                 {strings.Replace(secret, host, "no-such-host.invalid:5432", 1), "connect to the database", "can be reached"},
		"database":             {strings.Replace(url, "?", "x?", 1), "does not exist", "CREATE DATABASE"},
		"no URL":               {"postgres://u:top-secret#/@x:y:z/", "can't be understood", "postgres://USER"},
		"odd port":             {"postgres://u:top-secret@localhost:port/d", "can't be understood", "postgres://USER"},
		"odd option":           {secret + "&sslmode=maybe", "can't be understood", "postgres://USER"},
		"no file":              {strings.Replace(secret, "sslmode=disable", "sslmode=verify-full&sslrootcert=/no/such/file", 1), "/no/such/file", "may read"},
		"read-only":            {url + "&default_transaction_read_only=on", "read only", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var warned []error
			e, err := openPostgres(t.Context(), c.url, postgresConfig{warn: func(err error) { warned = append(warned, err) }})
			if err == nil {
				t.Fatal(errors.Join(errors.New("it opens"), e.close()))
			}
			var hint interface{ Hint() string }
			if !errors.As(err, &hint) || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Hint(), c.hint) {
				t.Errorf("the error is %v, with the hint %v; want %q and %q", err, hint, c.want, c.hint)
			}
			if n := strings.Count(err.Error(), host); n > 1 {
				t.Errorf("the error names the server %d times: %v", n, err)
			}
			for _, text := range []string{fmt.Sprintf("%v %+v %#v %q", err, err, err, warned), hint.Hint()} {
				for _, no := range []string{"top-secret", "top%2Dsecret", "top-secre", c.url, password, "correct horse"} {
					if strings.Contains(text, no) {
						t.Errorf("%q shows %q", text, no)
					}
				}
			}
		})
	}
}

func TestPostgresRights(t *testing.T) {
	url := pgserver.Database(t)
	s := pgserver.Shared(t)
	database := url[strings.LastIndex(url, "/")+1 : strings.Index(url, "?")]
	exec := func(sql string) {
		t.Helper()
		if err := s.ExecIn(t.Context(), database, sql); err != nil {
			t.Fatal(err)
		}
	}
	open := func() error {
		e, err := openPostgres(t.Context(), url, postgresConfig{warn: func(err error) { t.Error(err) }})
		if err == nil {
			err = e.close()
		}
		return err
	}
	refused := func(hint string) {
		t.Helper()
		err := open()
		var advice *postgresError
		if !errors.As(err, &advice) || !strings.Contains(advice.Hint(), hint) {
			t.Fatalf("it opens with %v, hint %v; want a hint %q", err, advice, hint)
		}
	}
	exec("ALTER DATABASE " + database + " OWNER TO postgres")
	refused("CREATE SCHEMA hubhook AUTHORIZATION hubhook")
	exec("CREATE SCHEMA hubhook")
	refused("ALTER SCHEMA hubhook OWNER TO hubhook")
	exec("GRANT USAGE ON SCHEMA hubhook TO hubhook")
	refused("ALTER SCHEMA hubhook OWNER TO hubhook")
	exec("ALTER SCHEMA hubhook OWNER TO hubhook")
	if err := open(); err != nil {
		t.Fatal(err)
	}
	exec("UPDATE hubhook.version SET version = 1000, reader = 1")
	if err := open(); err != nil {
		t.Errorf("a later schema that says it can be used: %v", err)
	}
	exec("UPDATE hubhook.version SET reader = 1000")
	refused("that version of hubhook or a later one")
}

// TestPostgresModes runs what conforms through each way in which pgx may run queries, which poolers may ask for.
func TestPostgresModes(t *testing.T) {
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		for what, test := range map[string]func(*testing.T, *bench){"content": conformContent, "states": conformStates, "bursts": conformBurst} {
			t.Run(mode+"/"+what, func(t *testing.T) {
				dir := t.TempDir()
				open := func(t *testing.T, dir string) engine {
					return openTestPostgres(t, databaseOf(t, dir)+"&default_query_exec_mode="+mode, postgresConfig{})
				}
				b := &bench{T: t, dir: dir, open: open, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
				b.engine = open(t, dir)
				t.Cleanup(func() { b.must(b.engine.close()) })
				test(t, b)
			})
		}
	}
}

// TestPostgresKeepsNoSession looks at what its connections have in the server: nothing that a pooler which gives each
// transaction another connection would lose.
func TestPostgresKeepsNoSession(t *testing.T) {
	b, e := postgresBench(t, pgserver.Database(t), postgresConfig{})
	b.store(in(Running))
	b.listed(Filter{})
	var prepared, locks int
	var level string
	conn := e.writer.conn
	b.must(conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_statements").Scan(&prepared))
	b.must(conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").Scan(&locks))
	b.must(conn.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&level))
	if prepared != 0 || locks != 0 || level != "on" {
		t.Errorf("there are %d prepared statements and %d advisory locks; synchronous_commit is %s", prepared, locks, level)
	}
}

// TestPostgresStandbyTakesOver kills a primary under load. What was stored is on the standby that has received more.
func TestPostgresStandbyTakesOver(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	primary := ownServer(t)
	standbys := map[string]*pgserver.Server{}
	for _, name := range []string{"s1", "s2"} {
		s, err := primary.Standby(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		standbys[name] = s
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if err := primary.RequireStandbys(t.Context(), "s1", "s2"); err != nil {
		t.Fatal(err)
	}
	b, _ := postgresBench(t, primary.URL("d", standbys["s1"], standbys["s2"]), postgresConfig{tries: time.Second})

	// A wait for standbys that is cancelled leaves a commit that can be seen, and would be lost with the primary.
	for _, s := range standbys {
		b.must(s.Pause())
	}
	cancelled := make(chan error, 1)
	go func() {
		for t.Context().Err() == nil {
			err := primary.Exec(t.Context(), `DO $$ BEGIN
				PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep';
				IF NOT FOUND THEN RAISE 'none waits'; END IF;
			END $$`)
			if err == nil || !strings.Contains(err.Error(), "none waits") {
				cancelled <- err
				return
			}
		}
	}()
	alone := b.arrive(nil)
	if err := b.commit(&batch{arrivals: []*arrival{alone}}); err == nil || !b.outage(err) {
		t.Errorf("a commit that is on the primary alone gives %v", err)
	}
	b.must(<-cancelled)
	b.forget([]ulid.ULID{alone.d.id})
	for _, s := range standbys {
		b.must(s.Continue())
	}
	eventually(t, func() bool { return b.commit(&batch{arrivals: []*arrival{b.arrive(nil)}}) == nil })
	if _, err := b.get(t.Context(), alone.d.id); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was refused came back: %v", err)
	}

	var stored []*arrival
	for kill := time.Now().Add(500 * time.Millisecond); ; {
		a := b.arrive(nil)
		if err := b.commit(&batch{arrivals: []*arrival{a}}); err != nil {
			b.forget([]ulid.ULID{a.d.id})
			break
		}
		stored = append(stored, a)
		if !kill.IsZero() && time.Now().After(kill) {
			kill = time.Time{}
			b.must(primary.Kill())
		}
	}
	var best *pgserver.Server
	most := int64(-1)
	for _, s := range standbys {
		n, err := s.Received(t.Context())
		b.must(err)
		if n > most {
			best, most = s, n
		}
	}
	b.must(best.Promote(t.Context()))
	eventually(t, func() bool { return b.commit(&batch{arrivals: []*arrival{b.arrive(nil)}}) == nil })
	for _, a := range stored {
		if b.state(a) != Waiting {
			t.Errorf("%s is %s", a.d.ID, b.state(a))
		}
	}
	t.Logf("%d were stored before the primary was killed", len(stored))
}

// TestPostgresWarns opens a database on a server that may lose what it has confirmed, and whose clock is elsewhere.
func TestPostgresWarns(t *testing.T) {
	s, err := pgserver.Start(t.Context(), "fsync=off", "synchronous_commit=off")
	pgserver.Need(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.CreateDatabase(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	var warned []string
	cfg := postgresConfig{
		now:  func() time.Time { return time.Now().Add(3 * time.Second) },
		warn: func(err error) { warned = append(warned, err.Error()) },
	}
	b, e := postgresBench(t, s.URL("d"), cfg)
	all := strings.Join(warned, "\n")
	if len(warned) != 2 || !strings.Contains(all, "fsync=off") || !strings.Contains(all, "differ by 3s") && !strings.Contains(all, "differ by 3.0") && !strings.Contains(all, "differ by 2.9") {
		t.Errorf("it warns:\n%s", all)
	}
	if got := (e.skew() + 3*time.Second).Abs(); got > time.Second {
		t.Errorf("the clock there is ahead by %v, want -3s", e.skew())
	}
	// With synchronous_commit=off the log is written up to a second later, but not with what arrives.
	b.store(nil)
	var behind bool
	b.must(e.workers.QueryRow(t.Context(), "SELECT pg_current_wal_insert_lsn() <> pg_current_wal_flush_lsn() FROM hubhook.delivery").Scan(&behind))
	if behind {
		t.Error("a commit with an arrival returned before the log was flushed")
	}
}

// TestPostgresPoll looks for changes where no notification arrives.
func TestPostgresPoll(t *testing.T) {
	url := pgserver.Database(t)
	one, _ := postgresBench(t, url, postgresConfig{})
	_, two := postgresBench(t, url, postgresConfig{})
	p := &postgresPoll{}
	look := func() (ids []ulid.ULID) {
		t.Helper()
		p.look(t.Context(), two, func(changed []ulid.ULID, due bool) {
			if !due {
				t.Error("a poll can't know that nothing is due")
			}
			ids = changed
		})
		return ids
	}
	if got := look(); got != nil {
		t.Errorf("at first, %v has changed", got)
	}
	waits, done := one.store(nil), one.store(in(Done))
	if got := look(); len(got) != 2 || got[0] != waits.d.id || got[1] != done.d.id {
		t.Errorf("after two arrivals, %v has changed", got)
	}
	if got := look(); got != nil {
		t.Errorf("when nothing has happened, %v has changed", got)
	}
	one.claim(1)
	if got := look(); len(got) != 1 || got[0] != waits.d.id {
		t.Errorf("after a start, %v has changed", got)
	}
}

// TestPostgresOpensTogether has several processes meet an empty database: one makes the schema, and all go on.
func TestPostgresOpensTogether(t *testing.T) {
	url := pgserver.Database(t)
	var opening sync.WaitGroup
	ids := make([]int32, 6)
	for i := range ids {
		opening.Go(func() {
			e, err := openPostgres(t.Context(), url, postgresConfig{warn: func(err error) { t.Error(err) }})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = e.process
			if err := e.close(); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 6 || ids[0] == 0 {
		t.Errorf("the processes are %v", ids)
	}
}
