package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hubhook/hubhook/internal/queue/store"
)

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
func (d *database) failed(doing string, err error) error {
	var own *databaseError
	if err == nil || errors.As(err, &own) || errors.Is(err, store.ErrClosed) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	}
	why := err.Error()
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &connect) && connect.Unwrap() != nil:
		why = connectText(connect.Unwrap())
	case errors.As(err, &pg):
		why = pg.Error()
	case errors.Is(err, context.DeadlineExceeded):
		why = "it did not answer in time"
	}
	failed := &databaseError{text: doing + ": " + strings.Join(strings.Fields(d.hide.Redact(why)), " ")}
	if errors.As(err, &pg) {
		failed.code = pg.Code
	}
	failed.hint = adviceFor(failed.code)
	switch {
	case errors.Is(err, pgconn.ErrReadOnlyConnection):
		failed.hint = adviceFor("25006")
	case failed.code == "" && strings.Contains(why, "tls error") && !errors.Is(err, context.DeadlineExceeded): // pgx has no error to compare with
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
func (d *database) Outage(err error) bool {
	var pe *databaseError
	if !errors.As(err, &pe) {
		return errors.Is(err, store.ErrClosed) || errors.Is(err, context.Canceled)
	}
	return !slices.ContainsFunc([]string{"22", "23", "54"}, func(class string) bool { return strings.HasPrefix(pe.code, class) })
}
