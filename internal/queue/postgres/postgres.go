// Package postgres keeps the deliveries of any number of processes in a PostgreSQL database.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const (
	defaultLease   = 10 * time.Second
	commitFor      = 4 * time.Second // what a commit may take, with all that is done about a lost connection
	connectFor     = 3 * time.Second // what one try to connect may take
	workFor        = 4 * time.Second // what claiming, renewing, telling or sweeping may take
	readFor        = 30 * time.Second
	farewellFor    = time.Second            // what ending the connections in order may take, all together
	reconnectFrom  = 100 * time.Millisecond // the pause after the first failed try to connect; it doubles
	reconnectTo    = 2 * time.Second
	maxSkew        = time.Second           // between the clocks, before it is said
	collisionPause = 50 * time.Millisecond // at most, before a commit that met another process's is made again
)

// The versions of PostgreSQL: older ones lack what is used here; newer ones may work, but nobody has tried.
const (
	oldestServer = 13
	testedServer = 15
)

// Config says how an Engine is to be.
type Config struct {
	// Warn is told what went wrong in the background. It must neither block nor call the Engine.
	Warn func(error)
	// Now is this machine's clock. Default time.Now.
	Now func() time.Time

	lease time.Duration // 0 for defaultLease
	tries time.Duration // what a commit may take; 0 for commitFor
}

var (
	_ store.Engine  = (*Engine)(nil)
	_ store.Sharing = (*Engine)(nil)
)

// Engine is the engine on a PostgreSQL database that any number of processes share.
//
// One connection stores, with all changes of a batch in one call of a function, so that a commit is one round trip whatever
// is in it. No connection has state beyond its transactions but the one that listens, so that all of it works through a
// pooler that gives each transaction another connection.
type Engine struct {
	cfg     Config
	conf    *pgx.ConnConfig
	secrets []string      // never to be shown
	readers *pgxpool.Pool // for queries
	workers *pgxpool.Pool // for what must go on however many queries there are
	process int32
	sync    string    // what synchronous_commit is set to where a commit must survive a power cut; "" to leave it as it is
	newest  ulid.ULID // when it was opened
	life    context.Context
	end     context.CancelFunc
	tasks   sync.WaitGroup
	conns   openConns
	ahead   atomic.Int64 // of the server's clock, in nanoseconds
	others  atomic.Int64 // processes that were at work lately, besides this one
	renewed atomic.Int64 // when claims were last renewed, in Unix nanoseconds; 0: the last try failed
	good    atomic.Int64 // since when that has gone well without a break longer than a lease

	mu     sync.Mutex
	writer *writer       // nil while there is no connection
	down   error         // why there is none
	found  chan struct{} // closed when there is one again
	seek   chan struct{} // asks for one
	batch  int64         // number of the last batch
	unsure map[ulid.ULID]int64
	// forgotten are arrivals, with their tokens, that must not come back.
	forgotten map[ulid.ULID]int64
	endpoints map[int64]string
	served    map[int64]string // endpoints that deliveries were claimed for, whether they are stored or not
	untold    told
	telling   chan struct{} // asks for it to be told
}

// Open connects to the database at url, brings its schema up to date, and begins to take part in its work.
func Open(ctx context.Context, url string, cfg Config) (_ *Engine, err error) {
	if cfg.lease == 0 {
		cfg.lease = defaultLease
	}
	if cfg.tries == 0 {
		cfg.tries = commitFor
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &Engine{
		cfg: cfg, found: make(chan struct{}), seek: make(chan struct{}, 1), telling: make(chan struct{}, 1),
		unsure: map[ulid.ULID]int64{}, forgotten: map[ulid.ULID]int64{}, endpoints: map[int64]string{}, served: map[int64]string{},
	}
	e.life, e.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if err := e.configure(url); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, e.conf)
	if err != nil {
		return nil, e.failed("connect to the database", err)
	}
	err = e.prepare(ctx, conn)
	if err = errors.Join(err, e.closeConn(conn)); err != nil {
		return nil, err
	}
	w, err := e.connectWriter(ctx)
	if err != nil {
		return nil, e.failed("connect to the database", err)
	}
	e.writer = w
	e.good.Store(time.Now().UnixNano())
	e.renewed.Store(time.Now().UnixNano())
	e.tasks.Go(e.keepWriter)
	e.tasks.Go(e.teller)
	return e, nil
}

// configure reads the URL.
func (e *Engine) configure(given string) error {
	pool, err := pgxpool.ParseConfig(given)
	if err != nil {
		// pgx's own message holds a part of the URL, and so may hold one of the password.
		const text = "read the database's URL: "
		var file *fs.PathError
		if errors.As(err, &file) {
			return &databaseError{text: fmt.Sprintf("%sa file that it names: %v", text, file), hint: "name a file in the URL that is there, and that this user may read"}
		}
		return &databaseError{text: text + "it can't be understood", hint: "it looks like postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full, with special characters of the password as %XX"}
	}
	u, urlErr := url.Parse(given)
	asked := func(name string) bool { return strings.Contains(given, name+"=") }
	if urlErr == nil && u.Scheme != "" {
		asked = u.Query().Has
	}
	e.conf = pool.ConnConfig
	e.conf.DialFunc = e.conns.over(e.conf.DialFunc)
	e.secrets = []string{given, e.conf.Password, url.QueryEscape(e.conf.Password), url.PathEscape(e.conf.Password)}
	if e.conf.RuntimeParams["application_name"] == "" {
		e.conf.RuntimeParams["application_name"] = "hubhook"
	}
	if !asked("default_query_exec_mode") {
		e.conf.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if !asked("connect_timeout") {
		e.conf.ConnectTimeout = connectFor
	}
	e.conf.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	if !asked("pool_max_conns") {
		pool.MaxConns = 4
	}
	pool.ConnConfig = e.conf
	if e.readers, err = pgxpool.NewWithConfig(e.life, pool); err != nil {
		return e.failed("connect to the database", err)
	}
	pool = pool.Copy()
	pool.MaxConns = 2
	if e.workers, err = pgxpool.NewWithConfig(e.life, pool); err != nil {
		return e.failed("connect to the database", err)
	}
	return nil
}

// prepare looks at the server, brings the schema up to date and registers this process.
func (e *Engine) prepare(ctx context.Context, conn *pgx.Conn) error {
	settings := map[string]string{}
	for _, name := range []string{"server_version_num", "server_encoding", "fsync", "full_page_writes", "synchronous_commit"} {
		var value string
		if err := conn.QueryRow(ctx, query("setting"), pgx.NamedArgs{"name": name}).Scan(&value); err != nil {
			return e.failed("look at the database's settings", err)
		}
		settings[name] = value
	}
	version, err := strconv.Atoi(settings["server_version_num"])
	if err != nil {
		return e.failed("look at the database's version", err)
	}
	switch version /= 10000; {
	case version < oldestServer:
		return &databaseError{
			text: fmt.Sprintf("use the database: it is PostgreSQL %d, and hubhook needs %d or later", version, oldestServer),
			hint: fmt.Sprintf("upgrade the server; hubhook is tested with PostgreSQL %d", testedServer),
		}
	case version != testedServer:
		e.cfg.Warn(fmt.Errorf("the database is PostgreSQL %d; hubhook is tested with %d alone", version, testedServer))
	}
	if enc := settings["server_encoding"]; enc != "UTF8" {
		return &databaseError{
			text: fmt.Sprintf("use the database: its encoding is %s, which has no room for all that deliveries hold", enc),
			hint: "make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
		}
	}
	for _, name := range []string{"fsync", "full_page_writes"} {
		if settings[name] != "on" {
			e.cfg.Warn(store.Advise(fmt.Errorf("the database's server has %s=%s: a power cut may lose accepted deliveries, or all of them", name, settings[name]),
				"set "+name+" = on on the server"))
		}
	}
	switch settings["synchronous_commit"] {
	case "off", "local", "remote_write":
		e.sync = "on"
	}
	if err := e.migrate(ctx, conn); err != nil {
		return err
	}
	if err := e.measureClock(ctx, conn); err != nil {
		return err
	}
	if ahead := e.Skew(); ahead.Abs() > maxSkew {
		e.cfg.Warn(store.Advise(fmt.Errorf("the clocks of this machine and of the database's differ by %v; hubhook goes by the database's", ahead.Abs().Round(time.Millisecond)),
			"let both follow a time server"))
	}
	if err := conn.QueryRow(ctx, query("register")).Scan(&e.process); err != nil {
		return e.failed("register with the database", err)
	}
	var last pgtype.UUID
	if err := conn.QueryRow(ctx, query("newest")).Scan(&last); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return e.failed("look for the newest delivery", err)
	}
	e.newest = last.Bytes
	var others int64
	if err := conn.QueryRow(ctx, query("others"), pgx.NamedArgs{"process": e.process}).Scan(&others); err != nil {
		return e.failed("look for other processes", err)
	}
	e.others.Store(others)
	return nil
}

// migrate brings the schema up to date. Of processes that do so at the same time, one does it.
func (e *Engine) migrate(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(7524361420211914090)"); err != nil {
			return e.failed("wait for others that bring the database's schema up to date", err)
		}
		var there, mayCreate, mayUse bool
		var database, user string
		if err := tx.QueryRow(ctx, query("rights")).Scan(&there, &mayCreate, &mayUse, &database, &user); err != nil {
			return e.failed("look for the schema hubhook", err)
		}
		switch {
		case !there && !mayCreate:
			return &databaseError{
				text: "make the schema hubhook in the database: its user may not make schemas",
				hint: fmt.Sprintf("as the database's owner, run: CREATE SCHEMA hubhook AUTHORIZATION %s; or: GRANT CREATE ON DATABASE %s TO %s", user, database, user),
			}
		case there && !mayUse:
			return &databaseError{
				text: "use the schema hubhook of the database: its user may not",
				hint: fmt.Sprintf("as the schema's owner, run: ALTER SCHEMA hubhook OWNER TO %s; or use the user who owns it", user),
			}
		case !there:
			if _, err := tx.Exec(ctx, "CREATE SCHEMA hubhook"); err != nil {
				return e.failed("make the schema hubhook in the database", err)
			}
		}
		var tables bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass('hubhook.version') IS NOT NULL").Scan(&tables); err != nil {
			return e.failed("look for hubhook's tables", err)
		}
		have, reader := 0, 0
		if tables {
			if err := tx.QueryRow(ctx, "SELECT version, reader FROM hubhook.version").Scan(&have, &reader); err != nil {
				return e.failed("read the schema's version", err)
			}
		} else if _, err := tx.Exec(ctx, "CREATE TABLE hubhook.version (version integer NOT NULL, reader integer NOT NULL)"); err != nil {
			err := e.failed("make hubhook's tables", err)
			var pe *databaseError
			if errors.As(err, &pe) && pe.code == "42501" {
				pe.hint = fmt.Sprintf("as the schema's owner, run: ALTER SCHEMA hubhook OWNER TO %s", user)
			}
			return err
		}
		know := len(migrations)
		if reader > know {
			return &databaseError{
				text: fmt.Sprintf("use the database: a later version of hubhook has changed its schema (to %d, this one knows %d)", have, know),
				hint: "use that version of hubhook or a later one, or another database",
			}
		}
		if have >= know {
			return nil
		}
		for i, m := range migrations[have:] {
			if _, err := tx.Conn().PgConn().Exec(ctx, m.sql()).ReadAll(); err != nil {
				return e.failed(fmt.Sprintf("bring the database's schema to version %d", have+i+1), err)
			}
			reader = m.reader
		}
		if _, err := tx.Exec(ctx, "DELETE FROM hubhook.version"); err != nil {
			return e.failed("note the schema's version", err)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO hubhook.version (version, reader) VALUES ($1, $2)", know, reader); err != nil {
			return e.failed("note the schema's version", err)
		}
		return nil
	})
}

// measureClock finds out how far the server's clock is ahead.
func (e *Engine) measureClock(ctx context.Context, conn *pgx.Conn) error {
	best := time.Duration(-1)
	for range 3 {
		var there int64
		sent := e.cfg.Now()
		began := time.Now()
		if err := conn.QueryRow(ctx, "SELECT hubhook.now_1()").Scan(&there); err != nil {
			return e.failed("compare the clocks", err)
		}
		if took := time.Since(began); best < 0 || took < best {
			best = took
			e.ahead.Store(there - sent.Add(took/2).UnixNano())
		}
	}
	return nil
}

// noteClock compares the clocks by an answer that came within the given time. What is known stays as long as the answer does
// not contradict it: the slower it came the less it tells, and two processes whose clocks wander put deliveries in the wrong order.
func (e *Engine) noteClock(sent time.Time, took time.Duration, there int64) {
	ahead := time.Duration(there - sent.Add(took/2).UnixNano())
	if (ahead - e.Skew()).Abs() > took/2 {
		e.ahead.Store(int64(ahead))
	}
}

func (e *Engine) Skew() time.Duration { return time.Duration(e.ahead.Load()) }

func (e *Engine) Last() ulid.ULID { return e.newest }

// Close implements store.Engine.
func (e *Engine) Close() error {
	e.end()
	closed := make(chan struct{})
	var patience sync.WaitGroup
	patience.Go(func() {
		timer := time.NewTimer(farewellFor)
		defer timer.Stop()
		select {
		case <-closed:
		case <-timer.C:
			e.conns.cut()
		}
	})
	defer func() { close(closed); patience.Wait() }()
	e.tasks.Wait()
	var err error
	e.mu.Lock()
	w := e.writer
	e.writer, e.down = nil, store.ErrClosed
	e.mu.Unlock()
	if w != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		// Others need not wait for hints from here any more. Without this they find out by themselves.
		_, _ = w.conn.Exec(ctx, query("deregister"), pgx.NamedArgs{"process": e.process})
		cancel()
		err = e.closeConn(w.conn)
	}
	if e.readers != nil {
		e.readers.Close()
	}
	if e.workers != nil {
		e.workers.Close()
	}
	return err
}

func (e *Engine) closeConn(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := conn.Close(ctx); err != nil && !conn.IsClosed() {
		return e.failed("close a connection to the database", err)
	}
	return nil
}

// databaseError is an error of the database, without anything of its URL.
type databaseError struct {
	text string
	code string // SQLSTATE; "" where it isn't the server that says so
	hint string
}

func (e *databaseError) Error() string { return e.text }

// Hint returns what to do, "" if there is nothing to say.
func (e *databaseError) Hint() string { return e.hint }

// failed says what could not be done. The error does not wrap pgx's, which may hold parts of the URL.
func (e *Engine) failed(doing string, err error) error {
	var own *databaseError
	if err == nil || errors.As(err, &own) || errors.Is(err, store.ErrClosed) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	}
	text := err.Error()
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &connect) && connect.Unwrap() != nil:
		text = connectText(connect.Unwrap())
	case errors.As(err, &pg):
		text = pg.Error()
	case errors.Is(err, context.DeadlineExceeded):
		text = "it did not answer in time"
	}
	failed := &databaseError{text: doing + ": " + strings.Join(strings.Fields(e.redact(text)), " ")}
	if errors.As(err, &pg) {
		failed.code = pg.Code
	}
	failed.hint = adviceFor(failed.code)
	switch {
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		failed.hint = adviceFor("25006")
	case failed.code == "" && strings.Contains(text, "tls error") && !errors.Is(err, context.DeadlineExceeded): // pgx has no error to compare with
		failed.hint = "set sslmode in the database's URL to what the server speaks, and sslrootcert to the file of the authority that signed its certificate"
	}
	return failed
}

// connectText says why none of the URL's hosts could be connected to. pgx has a line for each try, and tries a host with sslmode=prefer,
// the default, with TLS and without: that a server has none is no reason then, and the rest is said once.
func connectText(err error) string {
	tries := strings.Split(strings.ReplaceAll(err.Error(), "ValidateConnect failed: ", ""), "\n")
	var why []string
	for i, try := range tries {
		if !slices.Contains(why, try) && (i == len(tries)-1 || !strings.HasSuffix(try, "server refused TLS connection")) {
			why = append(why, try)
		}
	}
	return strings.Join(why, "; ")
}

// redact takes the URL and password out of a text.
func (e *Engine) redact(text string) string {
	for _, secret := range e.secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

// adviceFor says what to do about an error of the server.
func adviceFor(code string) string {
	switch {
	case code == "":
		return "check that the server runs and can be reached from here"
	case strings.HasPrefix(code, "28"):
		return "check the user and password in the database's URL, and the server's pg_hba.conf"
	case code == "3D000":
		return "make the database with CREATE DATABASE, or correct its name in the URL"
	case code == "53300":
		return "raise the server's max_connections, or put a pooler before it; each hubhook takes up to 8"
	case code == "53100":
		return "free some space on the server's disk"
	case code == "25006":
		return "the server takes no writes; name the primary in the database's URL, or all of its hosts"
	case code == "42501":
		return "use the user who owns the schema hubhook"
	}
	return ""
}

// Outage implements store.Engine: only errors of the values themselves say that something of a batch can't be stored.
func (e *Engine) Outage(err error) bool {
	var pe *databaseError
	if !errors.As(err, &pe) {
		return errors.Is(err, store.ErrClosed) || errors.Is(err, context.Canceled)
	}
	return !slices.ContainsFunc([]string{"22", "23", "54"}, func(class string) bool { return strings.HasPrefix(pe.code, class) })
}

func uuidOf(id ulid.ULID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: id != ulid.ULID{}} }

func uuidsOf(ids []ulid.ULID) []pgtype.UUID {
	us := make([]pgtype.UUID, len(ids))
	for i, id := range ids {
		us[i] = uuidOf(id)
	}
	return us
}
