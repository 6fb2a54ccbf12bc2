package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Ping connects to the database at url as Open does, and returns the server's version. It changes nothing, and takes 3 s at most, more where
// url says so.
func Ping(ctx context.Context, url string) (version string, err error) {
	d := newDatabase(Config{Now: time.Now})
	defer d.end()
	if err := d.configure(url); err != nil {
		return "", err
	}
	defer d.readers.Close()
	defer d.workers.Close()
	conn, err := pgx.ConnectConfig(ctx, d.conf)
	if err != nil {
		return "", d.failed("connect to the database", err)
	}
	defer func() { err = errors.Join(err, d.closeConn(conn)) }()
	if version = conn.PgConn().ParameterStatus("server_version"); version == "" {
		return "", fmt.Errorf("connect to the database: it does not say its version")
	}
	return version, nil
}
