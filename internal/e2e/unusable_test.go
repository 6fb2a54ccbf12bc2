//go:build unix

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// startPostgres starts a server for one test alone, for tests that would disturb others on a shared server.
func startPostgres(t *testing.T, settings ...string) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(t.Context(), settings...)
	pgserver.Need(t, err)
	closeAfter(t, s)
	return s
}

func closeAfter(t *testing.T, s *pgserver.Server) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PostgreSQL on port %d:\n%s", s.Port, s.Log())
		}
		must(t, s.Close())
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// useDatabase makes a home's programs keep their deliveries in a database. At the test's end it checks that none of their output and files
// has the database's password or URL.
func (h *home) useDatabase(t *testing.T, database string) {
	t.Helper()
	u, err := url.Parse(database)
	must(t, err)
	h.env = append(h.env, "HUBHOOK_DATABASE="+database)
	t.Cleanup(func() { h.wantUntold(t, u) })
}

// wantUntold checks that a database's password and URL are not in the output and the files of a home's programs.
func (h *home) wantUntold(t *testing.T, database *url.URL) {
	t.Helper()
	secrets := []string{database.Scheme + "://" + database.User.Username()}
	if password, ok := database.User.Password(); ok {
		secrets = append(secrets, password, url.PathEscape(password), url.QueryEscape(password))
	}
	look := func(where, text string) {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %q in it", where, secret)
			}
		}
	}
	for _, p := range h.programs {
		look("standard output", p.out.String())
		look("standard error", p.errs.String())
	}
	h.eachFile(t, look)
}

// eachFile calls look with the path and the text of each file of a home.
func (h *home) eachFile(t *testing.T, look func(path, text string)) {
	t.Helper()
	must(t, filepath.WalkDir(h.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // a running program has removed it
			return nil
		}
		look(path, string(text))
		return err
	}))
}

// If a database can't be used, the program says so before it serves anything, with the cause and the fix, and without the password.
func TestDatabasesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	server := pgserver.Shared(t)
	ctx := t.Context()
	// The owner of a database may do everything in it, so give the tables of this one another owner.
	must(t, server.Exec(ctx, "CREATE DATABASE norights"))
	must(t, server.ExecIn(ctx, "norights", "REVOKE CREATE ON DATABASE norights FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC"))
	must(t, server.CreateDatabase(ctx, "readonly"))
	must(t, server.Exec(ctx, "ALTER DATABASE readonly SET default_transaction_read_only = on"))
	good, err := url.Parse(server.URL("norights"))
	must(t, err)
	with := func(change func(u *url.URL)) string {
		u := *good
		change(&u)
		return u.String()
	}
	host := fmt.Sprintf("127.0.0.1:%d", server.Port)
	for name, test := range map[string]struct {
		url  string
		text []string // in the error
		hint string
	}{
		"wrong password": {
			with(func(u *url.URL) { u.User = url.UserPassword("hubhook", "wrong pass/word") }), []string{host, "password"}, "password",
		},
		"no such user":     {with(func(u *url.URL) { u.User = url.UserPassword("nobody", "s3same") }), []string{host, "password"}, "password"},
		"no such database": {with(func(u *url.URL) { u.Path = "/nowhere" }), []string{host, "nowhere", "does not exist"}, "CREATE DATABASE"},
		"no rights":        {server.URL("norights"), []string{"schema hubhook", "may not"}, "GRANT CREATE ON DATABASE norights"},
		"read-only":        {server.URL("readonly"), []string{host, "read only"}, "primary"},
		"unreachable":      {with(func(u *url.URL) { u.Host = "127.0.0.1:" + freePort(t) }), []string{"127.0.0.1:", "refused"}, "check that the server runs"},
		"no such host":     {with(func(u *url.URL) { u.Host = "db.invalid" }), []string{"db.invalid"}, "check that the server runs"},
		"TLS that the server does not speak": {
			with(func(u *url.URL) { u.RawQuery = "sslmode=verify-full" }), []string{host, "TLS"}, "sslmode",
		},
		"several hosts, none of which takes writes": {
			with(func(u *url.URL) {
				u.Host = "127.0.0.1:" + freePort(t) + "," + host
				u.Path, u.RawQuery = "/readonly", "sslmode=disable&target_session_attrs=read-write"
			}), []string{"refused", host, "read only"}, "primary",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.useDatabase(t, test.url)
			p := h.start(t, hubhook, "serve", "--port", "0", "--no-tunnel")
			if status := p.exit(); status != 1 {
				t.Errorf("exit status %d; want 1", status)
			}
			for _, text := range test.text {
				p.wantError(text, test.hint)
			}
			if p.out.String() != "" {
				t.Errorf("standard output %q; want none", p.out)
			}
		})
	}
}

// The URL need not have the password: it can be in PostgreSQL's own password file.
func TestThePasswordFromAFile(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	whole, err := url.Parse(pgserver.Database(t))
	must(t, err)
	password, _ := whole.User.Password()
	file := filepath.Join(t.TempDir(), "pgpass") // outside the home, whose files are searched for the password
	must(t, os.WriteFile(file, fmt.Appendf(nil, "%s:%s:*:%s:%s\n", whole.Hostname(), whole.Port(), whole.User.Username(), password), 0o600))
	without := *whole
	without.User = url.User(whole.User.Username())
	h.env = append(h.env, "HUBHOOK_DATABASE="+without.String(), "PGPASSFILE="+file)
	p := h.serve(t, bot, sharing()...)
	if a := p.post("nothing", push(t)); a.status != http.StatusOK {
		t.Errorf("answer %d %s; want 200", a.status, a.body)
	}
	p.stop()
	h.wantUntold(t, whole)
}

// Unfinished deliveries in a database may belong to another process, so --fresh is refused.
func TestFreshWithADatabase(t *testing.T) {
	t.Parallel()
	const database = "postgres://hubhook:s3same@127.0.0.1:1/hooks"
	u, err := url.Parse(database)
	must(t, err)
	for name, args := range map[string][]string{
		"flag":     {"--database", database, "--fresh"},
		"variable": {"--fresh"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			if !slices.Contains(args, "--database") {
				h.env = append(h.env, "HUBHOOK_DATABASE="+database)
			}
			p := h.start(t, hubhook, append([]string{"serve", "--port", "0", "--no-tunnel"}, args...)...)
			if status := p.exit(); status != 2 {
				t.Errorf("exit status %d; want 2", status)
			}
			p.wantError("--fresh", "")
			h.wantUntold(t, u)
		})
	}
}

// cut ends all connections to a database, as an administrator or a failing network does.
func cut(ctx context.Context, s *pgserver.Server, database string) error {
	u, err := url.Parse(database)
	if err != nil {
		return err
	}
	return s.Exec(ctx, fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'", strings.TrimPrefix(u.Path, "/")))
}
