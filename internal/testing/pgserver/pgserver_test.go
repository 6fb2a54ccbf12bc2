package pgserver_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := pgserver.CloseShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// query connects and returns the first column of the only row.
func query(ctx context.Context, url, sql string) (n int, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return n, conn.QueryRow(ctx, sql).Scan(&n)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDatabase(t *testing.T) {
	url := pgserver.Database(t)
	super, err := query(t.Context(), url, "SELECT usesuper::int FROM pg_user WHERE usename = current_user")
	must(t, err)
	if super != 0 {
		t.Error("tests run as superuser, which may do anything")
	}
	fsync, err := query(t.Context(), url, "SELECT (current_setting('fsync') = 'on')::int")
	must(t, err)
	if fsync != 1 {
		t.Error("fsync is off")
	}
	if other := pgserver.Database(t); other == url {
		t.Errorf("two tests have the database %s", url)
	}
}

func TestStandbyTakesOver(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three servers")
	}
	ctx := t.Context()
	primary, err := pgserver.Start(ctx)
	pgserver.Need(t, err)
	servers := []*pgserver.Server{primary}
	t.Cleanup(func() {
		for _, s := range servers {
			must(t, s.Close())
		}
	})
	for _, name := range []string{"s1", "s2"} {
		s, err := primary.Standby(ctx, name)
		must(t, err)
		servers = append(servers, s)
	}
	must(t, primary.RequireStandbys(ctx, "s1", "s2"))
	must(t, primary.CreateDatabase(ctx, "d"))
	_, err = query(ctx, primary.URL("d"), "SELECT 1")
	must(t, err)

	must(t, primary.Pause())
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := query(short, primary.URL("d"), "SELECT 1"); err == nil {
		t.Error("a paused server answers")
	}
	must(t, primary.Continue())
	_, err = query(ctx, primary.URL("d"), "SELECT 1")
	must(t, err)

	must(t, servers[2].Pause())
	must(t, primary.ExecIn(ctx, "d", "CREATE TABLE t AS SELECT 7 AS n; GRANT SELECT ON t TO PUBLIC"))
	must(t, primary.Kill())
	must(t, servers[2].Continue())
	got, err := servers[1].Received(ctx)
	must(t, err)
	if other, err := servers[2].Received(ctx); err != nil || got < other {
		t.Errorf("the one that was paused has received %d, the other %d, %v", other, got, err)
	}
	must(t, servers[1].Promote(ctx))
	if n, err := query(ctx, primary.URL("d", servers[1]), "SELECT n FROM t"); err != nil || n != 7 {
		t.Errorf("the promoted one has %d, %v", n, err)
	}
}
