package postgres

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

	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/testing/pgserver"

	"github.com/hubhook/hubhook/internal/queue/store/storetest"

	"github.com/hubhook/hubhook/internal/queue/store"
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

// openBench returns a bench on a new engine. The engine is closed when the test ends.
func openBench(t *testing.T, url string, cfg Config) (*storetest.Bench, *Engine) {
	t.Helper()
	e := openTest(t, url, cfg)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &storetest.Bench{T: t, Engine: e, Now: time.Now().Add(-time.Hour)}
	b.Ids.Random = ulid.Monotonic(ulid.DefaultEntropy(), 0)
	return b, e
}

// total returns how many deliveries are stored.
func total(b *storetest.Bench) (n int64) {
	b.Helper()
	counts, err := b.Counts(b.Context())
	b.Must(err)
	for _, states := range counts {
		for _, k := range states {
			n += k
		}
	}
	return n
}

// TestLostConnections ends connections under load. Each commit is looked up on the next connection, so none fails, none is made twice, and
// each gets its results.
func TestLostConnections(t *testing.T) {
	s := ownServer(t)
	b, _ := openBench(t, s.URL("d"), Config{tries: 30 * time.Second})
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
	held := func(a *store.Arrival) { a.Burst = &store.Burst{Key: 1, Wait: time.Hour} }
	last := b.Store(held)
	stored := int64(1)
	for end := time.Now().Add(time.Second); time.Now().Before(end) || kills.Load() < 3; stored += 2 {
		fresh := b.Arrive(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = a.Stored.ID, true })
		again := b.Arrive(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = fresh.Stored.ID, true })
		next := b.Arrive(held)
		b.Must(b.Commit(&store.Batch{Arrivals: []*store.Arrival{fresh, again, next}}))
		if fresh.First != nil || again.First == nil || again.First.ID != fresh.Stored.ID || again.First.Duplicates != 1 {
			t.Fatalf("the firsts are %v and %v", fresh.First, again.First)
		}
		if next.Merged == nil || next.Merged.ULID != last.Stored.ULID || next.RunAt.Sub(next.Stored.Received) != time.Hour {
			t.Fatalf("merged is %v, due at %v; want %s", next.Merged, next.RunAt, last.Stored.ID)
		}
		last = next
	}
	cancel()
	killing.Wait()
	if n := total(b); n != stored {
		t.Errorf("%d are stored, want %d; connections were ended %d times", n, stored, kills.Load())
	}
}

// TestServerStandsStill stops the server and lets it resume. Deliveries whose senders got an error are not stored after all.
func TestServerStandsStill(t *testing.T) {
	s := ownServer(t)
	b, e := openBench(t, s.URL("d"), Config{tries: 900 * time.Millisecond, lease: time.Second})
	runs := b.Store(func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, 77 })
	for range 3 {
		kept := b.Store(nil)
		b.Must(s.Pause())
		stuck := b.Arrive(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = "w"+a.Stored.ID, true })
		began := time.Now()
		err := b.Commit(&store.Batch{Arrivals: []*store.Arrival{stuck}})
		if err == nil || !b.Outage(err) {
			t.Fatalf("with the server stopped, a commit gives %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		later := b.Arrive(nil)
		began = time.Now()
		err = b.Commit(&store.Batch{Arrivals: []*store.Arrival{later}})
		if took := time.Since(began); err == nil || !b.Outage(err) || took > 100*time.Millisecond {
			t.Errorf("a later one gives %v after %v", err, took)
		}
		b.Forget([]ulid.ULID{stuck.Stored.ULID, later.Stored.ULID})
		b.Must(s.Continue())
		storetest.Eventually(t, func() bool { return b.Commit(&store.Batch{Arrivals: []*store.Arrival{b.Arrive(nil)}}) == nil })
		for name, a := range map[string]*store.Arrival{"stuck": stuck, "later": later} {
			if _, err := b.Get(t.Context(), a.Stored.ULID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the %s one came back: %v", name, err)
			}
		}
		if again := b.Store(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = "w"+stuck.Stored.ID, true }); again.First != nil {
			t.Errorf("the retry of what was refused is a duplicate of %+v", again.First)
		}
		if b.State(kept) != store.Waiting {
			t.Errorf("one that was stored is %s", b.State(kept))
		}
	}
	// No process may take over a claim before its owner has had the time to renew it.
	b.Must(s.Pause())
	if _, err := e.Renew(t.Context(), nil); err == nil {
		t.Error("a server that stands still has renewed claims")
	}
	b.Must(s.Continue())
	storetest.Eventually(t, func() bool {
		_, err := e.Renew(t.Context(), nil)
		return err == nil
	})
	if e.mayTakeOver() {
		t.Error("right after an outage, a claim that nobody could renew may be taken over")
	}
	b.InterruptAll()
	if b.State(runs) != store.Waiting {
		t.Errorf("a claim that nobody renews is %s in the end", b.State(runs))
	}
}

// A stalled server runs queued statements when it resumes, even if their sender is gone. A claim among them takes over nothing that its owner
// had no chance to renew. An outcome among them is not mistaken for one of another process.
func TestServerDoesLateWhatItWasSent(t *testing.T) {
	s := ownServer(t)
	b, e := openBench(t, s.URL("d"), Config{tries: 900 * time.Millisecond, lease: 2 * time.Second})
	running := func(token int64) *store.Arrival {
		return b.Store(func(a *store.Arrival) { a.Stored.State, a.Stored.Token = store.Running, token })
	}
	runs, ends := running(77), running(78)
	e.good.Store(time.Now().Add(-time.Hour).UnixNano())
	e.renewed.Store(time.Now().UnixNano())
	if !e.mayTakeOver() {
		t.Fatal("nothing would be taken over in any case")
	}
	if _, _, err := e.Claim(t.Context(), nil); err != nil { // connects
		t.Fatal(err)
	}
	b.Must(s.Pause())
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := e.Claim(short, nil); err == nil {
		t.Error("a server that stands still has answered a claim")
	}
	k := b.End(ends, store.Done, "")
	k.Token = 78
	if err := b.Commit(&store.Batch{Ends: []*store.End{k}}); err == nil {
		t.Error("a server that stands still has stored an outcome")
	}
	time.Sleep(e.cfg.lease) // until the claims have expired, by the server's clock
	b.Must(s.Continue())
	storetest.Eventually(t, func() bool { return b.Commit(&store.Batch{Ends: []*store.End{k}}) == nil })
	if k.Lost || b.State(ends) != store.Done {
		t.Errorf("the outcome is lost: %t; the delivery is %s", k.Lost, b.State(ends))
	}
	// The server ends those connections once it has run their statements.
	storetest.Eventually(t, func() bool {
		var busy int
		b.Must(e.readers.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE application_name = 'hubhook' AND state = 'active' AND pid <> pg_backend_pid()`).Scan(&busy))
		return busy == 0
	})
	if b.State(runs) != store.Running {
		t.Errorf("a claim that its owner could not renew is %s", b.State(runs))
	}
	other := b.End(runs, store.Done, "")
	other.Token = 79
	b.Ends(other)
	if !other.Lost {
		t.Error("an outcome without its claim is not lost")
	}
}

// A delivery that was stored although its sender got an error is removed, unless another sender got an answer as its duplicate meanwhile.
func TestKeepsWhatOthersAreDuplicatesOf(t *testing.T) {
	b, e := openBench(t, pgserver.Database(t), Config{})
	named := func(id string) *store.Arrival {
		return b.Store(func(a *store.Arrival) {
			a.Stored.State, a.Stored.Token, a.Stored.WebhookID, a.Dedupe = store.Running, 77, id, true
		})
	}
	alone, first := named("alone"), named("first")
	if second := named("first"); second.First == nil || second.First.ID != first.Stored.ID {
		t.Fatalf("the second one is a duplicate of %+v", second.First)
	}
	e.first.mu.Lock()
	for _, a := range []*store.Arrival{alone, first} {
		e.first.forgotten[a.Stored.ULID] = a.Stored.Token
	}
	e.first.mu.Unlock()
	b.Store(nil)
	if _, err := b.Get(t.Context(), alone.Stored.ULID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was refused is still there: %v", err)
	}
	if _, err := b.Get(t.Context(), first.Stored.ULID); err != nil {
		t.Errorf("the one that another was answered as a duplicate of is gone: %v", err)
	}
}

// TestForgetsBeforeAnythingIsStored checks that what one connection stored and its sender was refused is gone before the other one stores.
func TestForgetsBeforeAnythingIsStored(t *testing.T) {
	b, e := openBench(t, pgserver.Database(t), Config{})
	storetest.Eventually(t, func() bool { w, _ := e.second.takeWriter(); return w != nil })
	refused := b.Store(func(a *store.Arrival) {
		a.Stored.State, a.Stored.Token, a.Stored.WebhookID, a.Dedupe = store.Running, 77, "w", true
	})
	<-e.first.turn // a commit on the first connection
	e.first.mu.Lock()
	e.first.forgotten[refused.Stored.ULID] = refused.Stored.Token
	e.first.mu.Unlock()
	again := b.Arrive(func(a *store.Arrival) { a.Stored.WebhookID, a.Dedupe = "w", true })
	stored := make(chan error, 1)
	go func() { stored <- b.Commit(&store.Batch{Arrivals: []*store.Arrival{again}}) }()
	storetest.Eventually(t, func() bool { return len(e.second.turn) == 0 })
	e.first.giveBack()
	b.Must(<-stored)
	if e.second.batch != 1 {
		t.Fatal("the second connection has not stored it")
	}
	if again.First != nil {
		t.Errorf("what was sent again is a duplicate of %s, which was refused", again.First.ID)
	}
}

func TestOpenErrors(t *testing.T) {
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
			e, err := Open(t.Context(), c.url, Config{Warn: func(err error) { warned = append(warned, err) }})
			if err == nil {
				t.Fatal(errors.Join(errors.New("it opens"), e.Close()))
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

func TestRights(t *testing.T) {
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
		e, err := Open(t.Context(), url, Config{Warn: func(err error) { t.Error(err) }})
		if err == nil {
			err = e.Close()
		}
		return err
	}
	refused := func(hint string) {
		t.Helper()
		err := open()
		var advice *databaseError
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

// TestModes runs the conformance suite in each query mode of pgx. Some poolers need a mode other than the default.
func TestModes(t *testing.T) {
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			storetest.Suite{Open: func(t *testing.T, dir string) store.Engine {
				return openTest(t, databaseOf(t, dir)+"&default_query_exec_mode="+mode, Config{})
			}}.Run(t, "content comes back byte for byte", "states, attempts and counts follow a batch", "the last of a burst is left of it")
		})
	}
}

// TestKeepsNoSession checks that connections have no state in the server that a pooler in transaction mode would lose.
func TestKeepsNoSession(t *testing.T) {
	b, e := openBench(t, pgserver.Database(t), Config{})
	b.Store(storetest.In(store.Running))
	b.Listed(store.Filter{})
	var prepared, locks int
	var level string
	conn := e.first.writer.conn
	b.Must(conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_statements").Scan(&prepared))
	b.Must(conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").Scan(&locks))
	b.Must(conn.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&level))
	if prepared != 0 || locks != 0 || level != "on" {
		t.Errorf("there are %d prepared statements and %d advisory locks; synchronous_commit is %s", prepared, locks, level)
	}
}

// TestStandbyTakesOver kills a primary under load. All stored deliveries are on the standby that has received more.
func TestStandbyTakesOver(t *testing.T) {
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
	b, _ := openBench(t, primary.URL("d", standbys["s1"], standbys["s2"]), Config{tries: time.Second})

	// Cancelling the wait for standbys leaves a commit that is visible, but would be lost with the primary.
	for _, s := range standbys {
		b.Must(s.Pause())
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
	alone := b.Arrive(nil)
	if err := b.Commit(&store.Batch{Arrivals: []*store.Arrival{alone}}); err == nil || !b.Outage(err) {
		t.Errorf("a commit that is on the primary alone gives %v", err)
	}
	b.Must(<-cancelled)
	b.Forget([]ulid.ULID{alone.Stored.ULID})
	for _, s := range standbys {
		b.Must(s.Continue())
	}
	storetest.Eventually(t, func() bool { return b.Commit(&store.Batch{Arrivals: []*store.Arrival{b.Arrive(nil)}}) == nil })
	if _, err := b.Get(t.Context(), alone.Stored.ULID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was refused came back: %v", err)
	}

	var stored []*store.Arrival
	for kill := time.Now().Add(500 * time.Millisecond); ; {
		a := b.Arrive(nil)
		if err := b.Commit(&store.Batch{Arrivals: []*store.Arrival{a}}); err != nil {
			b.Forget([]ulid.ULID{a.Stored.ULID})
			break
		}
		stored = append(stored, a)
		if !kill.IsZero() && time.Now().After(kill) {
			kill = time.Time{}
			b.Must(primary.Kill())
		}
	}
	var best *pgserver.Server
	most := int64(-1)
	for _, s := range standbys {
		n, err := s.Received(t.Context())
		b.Must(err)
		if n > most {
			best, most = s, n
		}
	}
	b.Must(best.Promote(t.Context()))
	storetest.Eventually(t, func() bool { return b.Commit(&store.Batch{Arrivals: []*store.Arrival{b.Arrive(nil)}}) == nil })
	for _, a := range stored {
		if b.State(a) != store.Waiting {
			t.Errorf("%s is %s", a.Stored.ID, b.State(a))
		}
	}
	t.Logf("%d were stored before the primary was killed", len(stored))
}

// TestWarns opens a database on a server that may lose confirmed commits, and whose clock differs.
func TestWarns(t *testing.T) {
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
	cfg := Config{
		Now:  func() time.Time { return time.Now().Add(3 * time.Second) },
		Warn: func(err error) { warned = append(warned, err.Error()) },
	}
	b, e := openBench(t, s.URL("d"), cfg)
	all := strings.Join(warned, "\n")
	if len(warned) != 2 || !strings.Contains(all, "fsync=off") || !strings.Contains(all, "differ by 3s") && !strings.Contains(all, "differ by 3.0") && !strings.Contains(all, "differ by 2.9") {
		t.Errorf("it warns:\n%s", all)
	}
	if got := (e.Skew() + 3*time.Second).Abs(); got > time.Second {
		t.Errorf("the clock there is ahead by %v, want -3s", e.Skew())
	}
	// With synchronous_commit=off, the log is flushed up to a second later. For arrivals it must be flushed at once.
	b.Store(nil)
	var behind bool
	b.Must(e.workers.QueryRow(t.Context(), "SELECT pg_current_wal_insert_lsn() <> pg_current_wal_flush_lsn() FROM hubhook.delivery").Scan(&behind))
	if behind {
		t.Error("a commit with an arrival returned before the log was flushed")
	}
}

// TestPoll looks for changes without notifications.
func TestPoll(t *testing.T) {
	url := pgserver.Database(t)
	one, _ := openBench(t, url, Config{})
	_, two := openBench(t, url, Config{})
	p := &poll{}
	look := func() (ids []ulid.ULID) {
		t.Helper()
		p.look(t.Context(), two.reads, func(changed []ulid.ULID, due bool) {
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
	waits, done := one.Store(nil), one.Store(storetest.In(store.Done))
	if got := look(); len(got) != 2 || got[0] != waits.Stored.ULID || got[1] != done.Stored.ULID {
		t.Errorf("after two arrivals, %v has changed", got)
	}
	if got := look(); got != nil {
		t.Errorf("when nothing has happened, %v has changed", got)
	}
	one.ClaimUpTo(1)
	if got := look(); len(got) != 1 || got[0] != waits.Stored.ULID {
		t.Errorf("after a start, %v has changed", got)
	}
}

// TestNamesStatements checks that commits call a named statement once a trial has shown that sessions last, and that they do without where
// it is lost.
func TestNamesStatements(t *testing.T) {
	b, e := openBench(t, pgserver.Database(t), Config{})
	var following sync.WaitGroup
	ctx, end := context.WithCancel(t.Context())
	following.Go(func() { e.Follow(ctx, func([]ulid.ULID, bool) {}) })
	storetest.Eventually(t, e.sessions.Load)
	end()
	following.Wait()
	conn := e.first.writer.conn
	for want := range 2 { // the first delivery of an endpoint comes with its name
		b.Store(storetest.In(store.Running))
		var prepared int
		b.Must(conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_statements").Scan(&prepared))
		if prepared != want+1 {
			t.Errorf("there are %d prepared statements, want %d", prepared, want+1)
		}
	}
	_, err := conn.PgConn().Exec(t.Context(), "DEALLOCATE ALL").ReadAll() // which pgx does not see
	b.Must(err)
	b.Store(storetest.In(store.Running))
	if e.sessions.Load() {
		t.Error("named statements are not given up when one is lost")
	}
}

// TestOpensTogether opens an empty database in several processes at once. One makes the schema, and all go on.
func TestOpensTogether(t *testing.T) {
	url := pgserver.Database(t)
	var opening sync.WaitGroup
	ids := make([]int32, 6)
	for i := range ids {
		opening.Go(func() {
			e, err := Open(t.Context(), url, Config{Warn: func(err error) { t.Error(err) }})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = e.process
			if err := e.Close(); err != nil {
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
