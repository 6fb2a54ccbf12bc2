package salvage

import "context"

// Table describes the rows of a table.
type Table struct {
	Name    string
	Columns []Column
	Counts  map[int]bool // possible numbers of columns of a row; rows of an older schema have fewer
	Index   bool         // the table is WITHOUT ROWID, so its rows are entries of an index
}

// Column is a column of a Table.
type Column struct {
	Name     string
	Kind     string // INTEGER, TEXT or BLOB
	Required bool
	Key      bool // it is the INTEGER PRIMARY KEY, stored as the key of the row
}

// Fits reports whether r can be a row of the table.
func (l *Table) Fits(r Row) bool {
	if r.Index != l.Index || !l.Counts[len(r.Values)] {
		return false
	}
	for i, v := range r.Values {
		c := l.Columns[i]
		if v == nil {
			if c.Required && !c.Key {
				return false
			}
			continue
		}
		switch v.(type) {
		case int64:
			if c.Kind != "INTEGER" || c.Key {
				return false
			}
		case string:
			if c.Kind != "TEXT" {
				return false
			}
		case []byte:
			if c.Kind != "BLOB" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// Each calls found with each row that can be read. Rows of live pages come first, with sure set. Then come rows of pages that may be live
// or not: such a row may have been removed or changed since.
func (p *File) Each(ctx context.Context, progress func(done, total int), found func(r Row, sure bool) error) error {
	var unsurePages []uint32
	total := int(p.Count)
	for n := uint32(1); n <= p.Count; n++ {
		if n%64 == 1 {
			progress(int(n-1), total)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		switch p.Liveness(n) {
		case Live:
			if err := p.Rows(n, func(r Row) error { return found(r, true) }); err != nil {
				return err
			}
		case Unsure:
			unsurePages = append(unsurePages, n)
		}
	}
	for _, n := range unsurePages {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.Rows(n, func(r Row) error { return found(r, false) }); err != nil {
			return err
		}
	}
	progress(total, total)
	return nil
}
