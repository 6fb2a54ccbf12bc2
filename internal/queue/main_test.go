package queue

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
	"go.uber.org/goleak"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// child is what the test binary does when it is run to be killed; nil where no test does that.
var child func(mode string)

func TestMain(m *testing.M) {
	if mode := os.Getenv("QUEUE_TEST_CHILD"); mode != "" {
		child(mode)
		os.Exit(0)
	}
	// What compresses is made once and shared; made in a test's bubble of its own time, it could not be used outside it.
	packed, encoding := store.PackBody(make([]byte, 1<<20))
	if _, err := store.UnpackBody(packed, encoding); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(testsWithServer{m})
}

// testsWithServer are all tests, and the end of the server that they share.
type testsWithServer struct{ *testing.M }

func (ts testsWithServer) Run() int {
	code := ts.M.Run()
	if err := pgserver.CloseShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// database opens the file of a queue once more.
func database(t *testing.T, q *Queue) *sql.DB {
	t.Helper()
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(q.cfg.Dir, "hubhook.db")), RawQuery: "_pragma=busy_timeout(5000)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// run runs a statement on the file of a queue, beside it.
func run(t *testing.T, q *Queue, statement string) {
	t.Helper()
	db := database(t, q)
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// number is what a query for one number returns from the file of a queue.
func number(t *testing.T, q *Queue, query string) (n int) {
	t.Helper()
	db := database(t, q)
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// integrity runs the database's own check of itself.
func integrity(t *testing.T, q *Queue) error {
	t.Helper()
	db := database(t, q)
	defer db.Close()
	var found string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("integrity check: %s", found)
	}
	return nil
}

// unfinishedCount is how many deliveries are not finished.
func unfinishedCount(ctx context.Context, q *Queue) int64 {
	counts, err := q.Counts(ctx)
	if err != nil {
		panic(err)
	}
	n := int64(0)
	for _, states := range counts {
		n += states[Waiting] + states[Running] + states[Retrying]
	}
	return n
}

// countStored writes the counts that are kept.
func countStored(t *testing.T, q *Queue) string {
	t.Helper()
	counts, err := q.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(counts)
}

// recount counts the rows.
func recount(t *testing.T, q *Queue) string {
	t.Helper()
	db := database(t, q)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(),
		"SELECT p.name, d.state, count(*) FROM delivery d JOIN endpoint p ON p.id = d.endpoint GROUP BY 1, 2")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	counts := Counts{}
	for rows.Next() {
		var name string
		var state, n int64
		if err := rows.Scan(&name, &state, &n); err != nil {
			t.Fatal(err)
		}
		if counts[name] == nil {
			counts[name] = map[State]int64{}
		}
		counts[name][store.StateNames[state]] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(counts)
}
