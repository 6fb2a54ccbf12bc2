package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hubhook/hubhook/internal/queue/store"
)

var (
	markQuery   = query("mark")
	marksQuery  = query("marks")
	leadQuery   = query("lead")
	resignQuery = query("resign")
)

// callWithMarks calls commit_4 in one transaction with the marks of its batch. Both go in one round trip: the statements of a pgx.Batch
// are one transaction.
func (w *writer) callWithMarks(ctx context.Context, c *commitCall) (rows []row, err error) {
	both := &pgx.Batch{}
	both.Queue(markQuery,
		column(c.marks, func(m *store.Mark) string { return escapeText(m.Key) }),
		column(c.marks, func(m *store.Mark) int64 { return m.Version }),
		column(c.marks, func(m *store.Mark) []byte { return append([]byte{}, m.Value...) }))
	both.Queue(commitQuery, c.args()...)
	results := w.conn.SendBatch(ctx, both)
	defer func() { err = errors.Join(err, results.Close()) }()
	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	answer, err := results.Query()
	if err != nil {
		return nil, err
	}
	return readRows(answer)
}

// Marks implements store.Engine.
func (rd *reads) Marks(ctx context.Context, prefix string) ([]store.Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	all, err := readMarks(ctx, rd.db.workers, prefix)
	if err != nil {
		return nil, rd.db.failed("read from the database what was seen", err)
	}
	return all, nil
}

// readMarks reads the marks whose keys begin with prefix, over a connection or a pool of them.
func readMarks(ctx context.Context, conn interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, prefix string) ([]store.Mark, error) {
	rows, err := conn.Query(ctx, marksQuery, pgx.NamedArgs{"prefix": escapeText(prefix)})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m store.Mark, err error) {
		err = row.Scan(&m.Key, &m.Version, &m.Value)
		m.Key = unescapeText(m.Key)
		return m, err
	})
}

// Lead implements store.Sharing.
func (c *claims) Lead(ctx context.Context, task string, token int64, lease time.Duration) (leads bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	err = c.db.workers.QueryRow(ctx, leadQuery, pgx.NamedArgs{"task": task, "token": token, "lease": int64(lease)}).Scan(&leads)
	return leads, c.db.failed("ask the database who leads "+task, err)
}

// Resign implements store.Sharing.
func (c *claims) Resign(ctx context.Context, task string, token int64) error {
	ctx, cancel := context.WithTimeout(ctx, workFor)
	defer cancel()
	_, err := c.db.workers.Exec(ctx, resignQuery, pgx.NamedArgs{"task": task, "token": token})
	return c.db.failed("resign as the one who leads "+task, err)
}
