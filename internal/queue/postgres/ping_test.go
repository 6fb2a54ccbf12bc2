package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"github.com/hubhook/hubhook/internal/text"
)

func TestPing(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	version, err := Ping(t.Context(), url)
	if err != nil || version == "" {
		t.Fatalf("version %q, %v", version, err)
	}
	if marks, err := ReadMarks(t.Context(), url, ""); err != nil || len(marks) != 0 {
		t.Errorf("in an empty database there are the marks %v (%v)", marks, err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var made int
	if err := conn.QueryRow(t.Context(), "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'").Scan(&made); err != nil {
		t.Fatal(err)
	}
	if made != 0 {
		t.Errorf("it made %d tables and indexes; want none", made)
	}

	_, err = Ping(t.Context(), "postgres://me:hushhush@127.0.0.1:1/none")
	if err == nil || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "hushhush") || text.Hint(err) == "" {
		t.Errorf("where nothing listens: %v, hint %q", err, text.Hint(err))
	}
}
