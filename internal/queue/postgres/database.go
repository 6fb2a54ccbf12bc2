package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
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

	"github.com/hubhook/hubhook/internal/text"
)

// Versions of PostgreSQL. Ones before oldestServer lack features that are used here. Others than testedServer are untested.
const (
	oldestServer = 13
	testedServer = 15
)

// database is what all parts of the engine need of the server: its settings, pools of connections, clock and the names of endpoints.
type database struct {
	cfg     Config
	conf    *pgx.ConnConfig
	hide    *text.Redactor // hides the URL and its password
	readers *pgxpool.Pool  // for queries
	workers *pgxpool.Pool  // for claims, renewals, notifications and sweeps, which queries must not delay
	conns   openConns
	process int32     // the number of this process
	sync    string    // synchronous_commit for commits that must survive a power cut; "" leaves the server's setting
	newest  ulid.ULID // the newest delivery when the database was opened
	clock   clock
	names   names
	ended   atomic.Int64 // attempts that have ended since the last vacuum
	// sessions is whether connections keep their sessions: a notification has come back over this way to the server.
	sessions atomic.Bool
	asked    bool // the URL says how to call statements

	life  context.Context // ends the background work
	end   context.CancelFunc
	tasks sync.WaitGroup
}

func newDatabase(cfg Config) *database {
	d := &database{cfg: cfg, names: names{stored: map[int64]string{}, served: map[int64]string{}}}
	d.clock.now = cfg.Now
	d.life, d.end = context.WithCancel(context.Background())
	return d
}

// configure reads the URL and makes the pools of connections.
func (d *database) configure(given string) error {
	pool, err := pgxpool.ParseConfig(given)
	if err != nil {
		// pgx's own message has a part of the URL, and so may have a part of the password.
		const doing = "read the database's URL: "
		var file *fs.PathError
		if errors.As(err, &file) {
			return &databaseError{text: fmt.Sprintf("%sa file that it names: %v", doing, file), hint: "name a file in the URL that is there, and that this user may read"}
		}
		return &databaseError{text: doing + "it can't be understood", hint: "it looks like postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full, with special characters of the password as %XX"}
	}
	u, urlErr := url.Parse(given)
	asked := func(name string) bool { return strings.Contains(given, name+"=") }
	if urlErr == nil && u.Scheme != "" {
		asked = u.Query().Has
	}
	d.conf = pool.ConnConfig
	d.conf.DialFunc = d.conns.over(d.conf.DialFunc)
	d.hide = text.NewRedactor("***", given, d.conf.Password)
	if d.conf.RuntimeParams["application_name"] == "" {
		d.conf.RuntimeParams["application_name"] = "hubhook"
	}
	if d.asked = asked("default_query_exec_mode"); !d.asked {
		d.conf.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if !asked("connect_timeout") {
		d.conf.ConnectTimeout = connectFor
	}
	d.conf.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	if !asked("pool_max_conns") {
		pool.MaxConns = 4
	}
	pool.ConnConfig = d.conf
	if d.readers, err = pgxpool.NewWithConfig(d.life, pool); err != nil {
		return d.failed("connect to the database", err)
	}
	pool = pool.Copy()
	pool.MaxConns = 2
	if d.workers, err = pgxpool.NewWithConfig(d.life, pool); err != nil {
		return d.failed("connect to the database", err)
	}
	return nil
}

// prepare checks the server's settings, migrates the schema, compares the clocks and registers this process.
func (d *database) prepare(ctx context.Context, conn *pgx.Conn) error {
	settings := map[string]string{}
	for _, name := range []string{"server_version_num", "server_encoding", "fsync", "full_page_writes", "synchronous_commit"} {
		var value string
		if err := conn.QueryRow(ctx, query("setting"), pgx.NamedArgs{"name": name}).Scan(&value); err != nil {
			return d.failed("look at the database's settings", err)
		}
		settings[name] = value
	}
	version, err := strconv.Atoi(settings["server_version_num"])
	if err != nil {
		return d.failed("look at the database's version", err)
	}
	switch version /= 10000; {
	case version < oldestServer:
		return &databaseError{
			text: fmt.Sprintf("use the database: it is PostgreSQL %d, and hubhook needs %d or later", version, oldestServer),
			hint: fmt.Sprintf("upgrade the server; hubhook is tested with PostgreSQL %d", testedServer),
		}
	case version != testedServer:
		d.cfg.Warn(fmt.Errorf("the database is PostgreSQL %d; hubhook is tested with %d alone", version, testedServer))
	}
	if enc := settings["server_encoding"]; enc != "UTF8" {
		return &databaseError{
			text: fmt.Sprintf("use the database: its encoding is %s, which has no room for all that deliveries hold", enc),
			hint: "make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
		}
	}
	for _, name := range []string{"fsync", "full_page_writes"} {
		if settings[name] != "on" {
			d.cfg.Warn(text.WithHint(fmt.Errorf("the database's server has %s=%s: a power cut may lose accepted deliveries, or all of them", name, settings[name]),
				"set "+name+" = on on the server"))
		}
	}
	switch settings["synchronous_commit"] {
	case "off", "local", "remote_write":
		d.sync = "on"
	}
	if err := d.migrate(ctx, conn); err != nil {
		return err
	}
	if err := d.clock.measure(ctx, conn); err != nil {
		return d.failed("compare the clocks", err)
	}
	if ahead := d.Skew(); ahead.Abs() > maxSkew {
		d.cfg.Warn(text.WithHint(fmt.Errorf("the clocks of this machine and of the database's differ by %v; hubhook goes by the database's", ahead.Abs().Round(time.Millisecond)),
			"let both follow a time server"))
	}
	if err := conn.QueryRow(ctx, query("register")).Scan(&d.process); err != nil {
		return d.failed("register with the database", err)
	}
	var last pgtype.UUID
	if err := conn.QueryRow(ctx, query("newest")).Scan(&last); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return d.failed("look for the newest delivery", err)
	}
	d.newest = last.Bytes
	return nil
}

// Last implements store.Engine.
func (d *database) Last() ulid.ULID { return d.newest }

// Skew implements store.Sharing.
func (d *database) Skew() time.Duration { return d.clock.skew() }

func (d *database) closeConn(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := conn.Close(ctx); err != nil && !conn.IsClosed() {
		return d.failed("close a connection to the database", err)
	}
	return nil
}

func uuidOf(id ulid.ULID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: id != ulid.ULID{}} }

func uuidsOf(ids []ulid.ULID) []pgtype.UUID {
	us := make([]pgtype.UUID, len(ids))
	for i, id := range ids {
		us[i] = uuidOf(id)
	}
	return us
}
