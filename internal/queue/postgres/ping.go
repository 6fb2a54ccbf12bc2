package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// Ping connects to the database at url as Open does, and returns the server's version. It changes nothing, and takes 3 s at most, more where
// url says so.
func Ping(ctx context.Context, url string) (version string, err error) {
	err = visit(ctx, url, func(_ *database, conn *pgx.Conn) error {
		if version = conn.PgConn().ParameterStatus("server_version"); version == "" {
			return fmt.Errorf("connect to the database: it does not say its version")
		}
		return nil
	})
	return version, err
}

const undefinedTable = "42P01"

// ReadMarks returns the marks in the database at url whose keys begin with prefix. It changes nothing. A database that hubhook has never
// opened has none.
func ReadMarks(ctx context.Context, url, prefix string) (marks []store.Mark, err error) {
	err = visit(ctx, url, func(d *database, conn *pgx.Conn) error {
		marks, err = readMarks(ctx, conn, prefix)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == undefinedTable {
			return nil
		}
		return d.failed("read from the database what was seen", err)
	})
	return marks, err
}

// visit connects to the database at url, and disconnects once look has returned.
func visit(ctx context.Context, url string, look func(*database, *pgx.Conn) error) (err error) {
	d := newDatabase(Config{Now: time.Now})
	defer d.end()
	if err := d.configure(url); err != nil {
		return err
	}
	defer d.readers.Close()
	defer d.workers.Close()
	conn, err := pgx.ConnectConfig(ctx, d.conf)
	if err != nil {
		return d.failed("connect to the database", err)
	}
	defer func() { err = errors.Join(err, d.closeConn(conn)) }()
	return look(d, conn)
}
