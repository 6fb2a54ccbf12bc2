// Package pgserver runs real PostgreSQL servers for tests: on loopback, in temporary directories, with fsync on, so that a kill or a
// standby has the same effect as in production.
//
// It looks for PostgreSQL's programs on PATH and where Debian's packages put them. It does not touch a PostgreSQL that runs already.
package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/jackc/pgx/v5"
)

// The servers' users. The owner owns the tests' databases and is no superuser.
const (
	owner         = "hubhook"
	password      = "correct horse"
	superuser     = "postgres"
	superPassword = "battery staple"
)

// startWithin bounds the time until a server accepts connections, on a busy machine.
const startWithin = 60 * time.Second

// ErrNotInstalled says that there is no PostgreSQL on this machine.
var ErrNotInstalled = errors.New("PostgreSQL's initdb and postgres are neither on PATH nor under /usr/lib/postgresql; install PostgreSQL's server")

// Server is a PostgreSQL server with its data in a temporary directory.
type Server struct {
	Port int

	bin   string // directory of PostgreSQL's programs
	dir   string // of this server: data, socket and log
	flags []string

	mu  sync.Mutex
	cmd *exec.Cmd // nil while it does not run
	end chan struct{}
}

// Programs returns the directory of PostgreSQL's programs, the newest ones if there are several.
func Programs() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	version := func(dir string) int {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil {
			return 0
		}
		return n
	}
	slices.SortFunc(debian, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(dirs, debian...) {
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir, nil
		}
	}
	return "", ErrNotInstalled
}

// Start makes a server with an empty cluster and starts it. The settings, such as "max_connections=20", come after this
// package's own. Close ends the server and removes its directory.
func Start(ctx context.Context, settings ...string) (*Server, error) {
	s, err := prepare(settings)
	if err != nil {
		return nil, err
	}
	pwfile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(pwfile, []byte(superPassword+"\n"), 0o644); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.run(ctx, "initdb", "-D", s.data(), "-U", superuser, "--pwfile", pwfile, "--auth=scram-sha-256", "--encoding=UTF8",
		"--locale=C", "--no-sync"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.Resume(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.Exec(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", owner, password)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare makes a server's directory and finds a port for it.
func prepare(settings []string) (*Server, error) {
	bin, err := Programs()
	if err != nil {
		return nil, err
	}
	port, err := freeport.Find()
	if err != nil {
		return nil, err
	}
	// Not the test's own directory: a socket's path must be short.
	dir, err := os.MkdirTemp("", "pgserver")
	if err != nil {
		return nil, err
	}
	s := &Server{Port: port, bin: bin, dir: dir}
	if err := ownedByServer(dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port), "unix_socket_directories=" + dir,
		"shared_buffers=32MB", "max_wal_size=512MB", "max_connections=100", "log_line_prefix=%m [%p] ", "log_min_messages=warning",
		"dynamic_shared_memory_type=mmap", // in the data directory: a killed server would leave it in memory otherwise
	}, settings...) {
		s.flags = append(s.flags, "-c", setting)
	}
	return s, nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.dir, "log") }

// command returns one of PostgreSQL's programs, to run as a user who may run it.
func (s *Server) command(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGPASSWORD="+superPassword, "HOME="+s.dir)
	return cmd, runAsServer(cmd)
}

// run runs one of PostgreSQL's programs to its end.
func (s *Server) run(ctx context.Context, program string, args ...string) error {
	cmd, err := s.command(ctx, program, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, bytes.TrimSpace(out))
	}
	return nil
}

// Resume starts the server again on its data, after Stop or Kill, and returns once it accepts connections.
func (s *Server) Resume(ctx context.Context) error {
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// Not bound to ctx, because the server outlives the first test that uses it.
	cmd, err := s.command(context.WithoutCancel(ctx), "postgres", append([]string{"-D", s.data()}, s.flags...)...)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	end := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the log says how it ended
		close(end)
	}()
	s.mu.Lock()
	s.cmd, s.end = cmd, end
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.superURL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-end:
			return fmt.Errorf("start PostgreSQL: it ended at once:\n%s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("start PostgreSQL: %w\n%s", err, s.Log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Log returns the server's log.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// process returns the server's first process and a channel that closes at its end, nil if it does not run.
func (s *Server) process() (*os.Process, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil, nil
	}
	return s.cmd.Process, s.end
}

// Stop shuts the server down cleanly, without waiting for its clients.
func (s *Server) Stop() error { return s.signal(interrupt) }

// Kill ends all of the server's processes with SIGKILL.
func (s *Server) Kill() error { return s.signal(kill) }

func (s *Server) signal(send func(p *os.Process) error) error {
	p, end := s.process()
	if p == nil {
		return nil
	}
	if err := send(p); err != nil {
		return err
	}
	<-end
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd = nil
	return nil
}

// Pause suspends all of the server's processes. Continue resumes them.
func (s *Server) Pause() error {
	p, _ := s.process()
	return pause(p)
}

// Continue undoes Pause.
func (s *Server) Continue() error {
	p, _ := s.process()
	return proceed(p)
}

// Close kills the server and removes its data.
func (s *Server) Close() error { return errors.Join(s.Kill(), os.RemoveAll(s.dir)) }

// Exec runs statements as superuser.
func (s *Server) Exec(ctx context.Context, sql string) error {
	return s.ExecIn(ctx, "postgres", sql)
}

// ExecIn runs statements in a database as superuser.
func (s *Server) ExecIn(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, s.superURL(database))
	if err != nil {
		return err
	}
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

// queryText runs a query for one text as superuser.
func (s *Server) queryText(ctx context.Context, sql string) (text string, err error) {
	conn, err := pgx.Connect(ctx, s.superURL("postgres"))
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, sql).Scan(&text)
	return text, errors.Join(err, conn.Close(ctx))
}

// Dump returns the rows of all tables of a database as text, binary columns in hexadecimal. Tests look in it for what must not be stored.
func Dump(ctx context.Context, databaseURL string) (dump string, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	rows, err := conn.Query(ctx, "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema$)'")
	if err != nil {
		return "", err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	for _, table := range tables {
		var text string
		if err := conn.QueryRow(ctx, "SELECT coalesce(string_agg(t::text, E'\n'), '') FROM "+table+" t").Scan(&text); err != nil {
			return "", fmt.Errorf("read %s: %w", table, err)
		}
		dump += table + "\n" + text + "\n"
	}
	return dump, nil
}

// CreateDatabase makes an empty database for the owner.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return s.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s OWNER %s", name, owner))
}

// URL returns the URL of a database for its owner, on this server and the others.
func (s *Server) URL(database string, others ...*Server) string {
	hosts := s.host()
	for _, o := range others {
		hosts += "," + o.host()
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(owner, password), Host: hosts, Path: database, RawQuery: "sslmode=disable"}
	return u.String()
}

func (s *Server) host() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

func (s *Server) superURL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, superPassword), Host: s.host(), Path: database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Standby makes a server that follows s under the given name, and starts it.
func (s *Server) Standby(ctx context.Context, name string, settings ...string) (*Server, error) {
	standby, err := prepare(append(settings, "hot_standby=on"))
	if err != nil {
		return nil, err
	}
	source := fmt.Sprintf("host=127.0.0.1 port=%d user=%s password='%s' application_name=%s", s.Port, superuser, superPassword, name)
	if err := standby.run(ctx, "pg_basebackup", "-D", standby.data(), "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync"); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	if err := standby.Resume(ctx); err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

// RequireStandbys makes each commit on s wait until any one of the named standbys has it on disk. It returns once all the standbys
// follow.
func (s *Server) RequireStandbys(ctx context.Context, names ...string) error {
	if err := s.Exec(ctx, fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (%s)'", strings.Join(names, ", "))); err != nil {
		return err
	}
	if err := s.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		n, err := s.queryText(ctx, "SELECT count(*)::text FROM pg_stat_replication WHERE sync_state = 'quorum'")
		if err != nil {
			return err
		}
		if n == strconv.Itoa(len(names)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the standbys %v: %s of them follow", names, n)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Received returns how many bytes of the primary's log a standby has, to compare standbys.
func (s *Server) Received(ctx context.Context) (int64, error) {
	text, err := s.queryText(ctx, "SELECT pg_wal_lsn_diff(coalesce(pg_last_wal_receive_lsn(), '0/0'), '0/0')::bigint::text")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// Promote makes a standby a primary. Its commits wait for no other server.
func (s *Server) Promote(ctx context.Context) error {
	if err := s.Exec(ctx, "SELECT pg_promote(true, 60)"); err != nil {
		return err
	}
	if err := s.Exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = ''"); err != nil {
		return err
	}
	return s.Exec(ctx, "SELECT pg_reload_conf()")
}

// shared is the server of all tests of a test binary.
var shared struct {
	sync.Mutex
	server    *Server
	err       error
	databases int
}

// Database makes an empty database for one test, on a server that the tests of a binary share, and returns the URL for its
// owner. Without PostgreSQL the test ends: it fails if HUBHOOK_TEST_REQUIRE has postgres, else it is skipped.
func Database(tb testing.TB) string {
	tb.Helper()
	s := Shared(tb)
	shared.Lock()
	shared.databases++
	name := fmt.Sprintf("test%d", shared.databases)
	shared.Unlock()
	if err := s.CreateDatabase(context.Background(), name); err != nil {
		tb.Fatalf("make a database: %v", err)
	}
	return s.URL(name)
}

// Shared returns the server that the tests of a binary share. CloseShared, in TestMain, ends it.
func Shared(tb testing.TB) *Server {
	tb.Helper()
	shared.Lock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = Start(context.Background())
	}
	s, err := shared.server, shared.err
	shared.Unlock()
	Need(tb, err)
	return s
}

// CloseShared ends the shared server if there is one.
func CloseShared() error {
	shared.Lock()
	defer shared.Unlock()
	s := shared.server
	if s == nil {
		return nil
	}
	shared.server = nil
	return s.Close()
}

// Need ends the test if Start's err is not nil: there is no PostgreSQL, or the server could not be started.
func Need(tb testing.TB, err error) {
	tb.Helper()
	switch {
	case errors.Is(err, ErrNotInstalled):
		needs.Missing(tb, "postgres", err.Error())
	case err != nil:
		tb.Fatal(err)
	}
}
