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

// databaseError is an error of the database. Its text has no part of the URL.
type databaseError struct {
	text string
	code string // SQLSTATE; "" if the error is not from the server
	hint string
}

func (e *databaseError) Error() string { return e.text }

// Hint returns what to do, "" if there is nothing to say.
func (e *databaseError) Hint() string { return e.hint }

// failed returns an error that says what could not be done, and why. It does not wrap the error of pgx, which may have parts of the URL.
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

// connectText says why no host of the URL could be reached. The error of pgx has a line for each try. With sslmode=prefer, the default, pgx
// tries each host with TLS and without. So a refusal of TLS is left out if another try follows, and each reason is given once.
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

// adviceFor returns advice on an error by its SQLSTATE.
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

// Outage implements store.Engine. Only SQLSTATE classes 22, 23 and 54 are errors of a value in the batch; all others are outages.
func (d *database) Outage(err error) bool {
	var pe *databaseError
	if !errors.As(err, &pe) {
		return errors.Is(err, store.ErrClosed) || errors.Is(err, context.Canceled)
	}
	return !slices.ContainsFunc([]string{"22", "23", "54"}, func(class string) bool { return strings.HasPrefix(pe.code, class) })
}
