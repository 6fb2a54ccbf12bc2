package sqlite

import (
	"context"
	"fmt"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// marks stores marks, and knows what to put back where a failed sync leaves open whether they are stored.
type marks struct {
	written []markChange // of the transaction under way
	unsure  []markChange // of commits whose sync failed, oldest first
}

// markChange is a mark as it was before a commit. was is its version then, 0 if there was none.
type markChange struct {
	key   string
	was   int64
	value []byte
}

func (ms *marks) apply(w *writer, m *store.Mark) error {
	row, err := w.mark.queryRow(m.Key)
	if err != nil {
		return err
	}
	c := markChange{key: m.Key}
	if row != nil {
		c.was, c.value = row[0].(int64), row[1].([]byte)
	}
	if c.was != m.Version {
		return fmt.Errorf("store the mark %s as version %d: it has version %d: %w", m.Key, m.Version+1, c.was, store.ErrMarkMoved)
	}
	ms.written = append(ms.written, c)
	return w.exec("INSERT OR REPLACE INTO mark (key, version, value) VALUES (?, ?, ?)", m.Key, m.Version+1, notNull(m.Value))
}

// settle ends a transaction. broken says that its sync failed.
func (ms *marks) settle(broken bool) {
	if broken {
		ms.unsure = append(ms.unsure, ms.written...)
	}
	ms.written = ms.written[:0]
}

// undoAll puts back the marks of failed commits. All of these commits failed, so the first change of a mark knows what was there before.
func (ms *marks) undoAll(w *writer) error {
	for i := len(ms.unsure) - 1; i >= 0; i-- {
		c := ms.unsure[i]
		var err error
		if c.was == 0 {
			err = w.exec("DELETE FROM mark WHERE key = ?", c.key)
		} else {
			err = w.exec("INSERT OR REPLACE INTO mark (key, version, value) VALUES (?, ?, ?)", c.key, c.was, notNull(c.value))
		}
		if err != nil {
			return err
		}
	}
	ms.unsure = nil
	return nil
}

// notNull returns b, or an empty value instead of none.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Marks implements store.Engine.
func (rd *reads) Marks(ctx context.Context, prefix string) (all []store.Mark, err error) {
	db, err := rd.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT key, version, value FROM mark WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key", prefix)
	if err != nil {
		return nil, rd.file.lookError("read what was seen", err)
	}
	defer rows.Close()
	for rows.Next() {
		var m store.Mark
		if err := rows.Scan(&m.Key, &m.Version, &m.Value); err != nil {
			return nil, rd.file.lookError("read what was seen", err)
		}
		all = append(all, m)
	}
	if err := rows.Err(); err != nil {
		return nil, rd.file.lookError("read what was seen", err)
	}
	return all, nil
}
