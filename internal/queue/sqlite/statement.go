package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
)

// statement is a prepared statement of one connection.
type statement struct {
	s    driver.Stmt
	args []driver.NamedValue
}

func prepare(conn driver.Conn, query string) (*statement, error) {
	s, err := conn.Prepare(query)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	return &statement{s: s}, nil
}

// bind returns args in the form that the driver takes. The result is valid until the next call.
func (s *statement) bind(args []any) []driver.NamedValue {
	s.args = s.args[:0]
	for i, a := range args {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return s.args
}

func (s *statement) exec(args ...any) error {
	return s.execContext(context.Background(), args...)
}

// execContext is exec for statements that take long: the end of ctx interrupts them.
func (s *statement) execContext(ctx context.Context, args ...any) error {
	_, err := s.s.(driver.StmtExecContext).ExecContext(ctx, s.bind(args))
	return err
}

// execCount returns how many rows the statement changed.
func (s *statement) execCount(args ...any) (int64, error) {
	r, err := s.s.(driver.StmtExecContext).ExecContext(context.Background(), s.bind(args))
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// queryRow returns the first row, nil if there is none.
func (s *statement) queryRow(args ...any) ([]driver.Value, error) {
	rows, err := s.s.(driver.StmtQueryContext).QueryContext(context.Background(), s.bind(args))
	if err != nil {
		return nil, err
	}
	all, err := readRows(rows, 1)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

func readRows(rows driver.Rows, limit int) (all [][]driver.Value, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for len(all) < limit {
		row := make([]driver.Value, len(rows.Columns()))
		if err := rows.Next(row); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, nil
}

// exec runs a query that is not worth preparing.
func (w *writer) exec(query string, args ...any) error {
	_, err := w.conn.(driver.ExecerContext).ExecContext(context.Background(), query, (&statement{}).bind(args))
	return err
}

func (w *writer) query(query string, args ...any) ([][]driver.Value, error) {
	rows, err := w.conn.(driver.QueryerContext).QueryContext(context.Background(), query, (&statement{}).bind(args))
	if err != nil {
		return nil, err
	}
	return readRows(rows, 1<<30)
}

// each calls do with each row of a query. A row is valid until do returns.
func (w *writer) each(query string, args []any, do func(row []driver.Value) error) (err error) {
	rows, err := w.conn.(driver.QueryerContext).QueryContext(context.Background(), query, (&statement{}).bind(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(row); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := do(row); err != nil {
			return err
		}
	}
}

func (w *writer) queryRow(query string, args ...any) ([]driver.Value, error) {
	all, err := w.query(query, args...)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no row", query)
	}
	return all[0], nil
}

// textOrNull returns nil for "": SQLite stores NULL without a byte.
func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func blob(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}
