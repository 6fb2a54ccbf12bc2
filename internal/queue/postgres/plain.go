package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const storeQuery = "SELECT hubhook.store_4($1, $2, $3, $4, $5, $6, $7)"

const (
	waryFor    = 16      // after a batch that store_4 refused, so many commits use commit_4: duplicates often come one after the other
	keepBuffer = 1 << 20 // bytes; a larger buffer is not used again, since few batches have so much content
)

// isPlain reports whether store_4 can store the call.
func (c *commitCall) isPlain() bool {
	return len(c.discards)+len(c.marks)+len(c.fresh) == 0 && c.rounds <= 1 &&
		!slices.ContainsFunc(c.ends, func(e *store.End) bool { return e.From != store.Running || !e.To.Finished() }) &&
		!slices.ContainsFunc(c.arrivals, func(a *store.Arrival) bool {
			return a.Burst != nil || a.Stored.Serial != 0 || a.ReplayOf != ulid.ULID{} || a.Stack != ""
		})
}

// store calls store_4.
func (w *writer) store(ctx context.Context, c *commitCall) ([]row, error) {
	ends, arrivals := &w.ends, &w.arrivals
	ends.begin(len(c.ends))
	for _, e := range c.ends {
		ends.row(13) // in the order of end_4
		ends.uuid(e.ID)
		ends.int8(e.Token)
		ends.int2(store.StateNumber(e.To))
		ends.text(e.Reason)
		ends.int4(e.Failures)
		ends.int4(e.Attempts)
		ends.int8(int64(e.Attempt.Duration))
		ends.int4(e.Attempt.N)
		ends.int8(nanos(e.Attempt.Started))
		ends.text(e.Attempt.Error)
		ends.text(e.Attempt.Stack)
		ends.bytea(e.Attempt.Output)
		ends.bytea(e.Attempt.Result)
		ends.end()
	}
	arrivals.begin(len(c.arrivals))
	for i, a := range c.arrivals {
		d := &a.Stored
		arrivals.row(19) // in the order of arrival_4
		arrivals.uuid(d.ULID)
		arrivals.int8(store.Hash(d.Endpoint))
		arrivals.int8(d.Received.UnixNano())
		if d.Started.IsZero() {
			arrivals.null(pgtype.Int8OID)
		} else {
			arrivals.int8(d.Started.UnixNano())
		}
		arrivals.int2(store.StateNumber(d.State))
		arrivals.bool(d.Synthetic)
		arrivals.int4(d.Attempts)
		arrivals.int8(d.Token)
		arrivals.text(d.Scope)
		arrivals.text(d.Action)
		arrivals.text(d.RepoType)
		arrivals.text(d.RepoName)
		arrivals.text(d.WebhookID)
		arrivals.text(d.Reason)
		arrivals.bytea(a.Header)
		arrivals.bytea(a.Body)
		arrivals.int2(a.Encoding)
		arrivals.uuid(c.hash[i].Bytes)
		arrivals.int8(c.keep[i])
		arrivals.end()
	}
	int8 := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	values := [][]byte{
		[]byte(c.sync), binary.BigEndian.AppendUint32(nil, uint32(c.process)), int8(c.epoch), int8(c.number), int8(c.lease), ends.buf, arrivals.buf,
	}
	binaries, conn := []int16{1}, w.conn.PgConn()
	if !c.named {
		return nil, conn.ExecParams(ctx, storeQuery, values, nil, binaries, nil).Read().Err
	}
	if w.statement == "" {
		w.statements++
		name := fmt.Sprintf("hubhook_store_%d", w.statements)
		if _, err := conn.Prepare(ctx, name, storeQuery, nil); err != nil {
			return nil, err
		}
		w.statement = name
	}
	return nil, conn.ExecPrepared(ctx, w.statement, values, binaries, nil).Read().Err
}

// rows is an array of rows in PostgreSQL's binary form. pgx would encode such an array only if the type of its rows were
// registered. The buffer is used again for the next array.
type rows struct {
	buf   []byte
	oid   uint32 // of the type of the rows
	start int    // where the row that is being written begins in buf
}

func (r *rows) begin(n int) {
	if r.buf = r.buf[:0]; cap(r.buf) > keepBuffer {
		r.buf = nil
	}
	if n == 0 {
		r.append4(0, 0, r.oid) // no dimension
		return
	}
	r.append4(1, 0, r.oid, uint32(n), 1) // one dimension, no NULL, n rows from 1 on
}

func (r *rows) row(columns uint32) {
	r.append4(0) // end sets it to the length
	r.start = len(r.buf)
	r.append4(columns)
}

func (r *rows) end() { binary.BigEndian.PutUint32(r.buf[r.start-4:], uint32(len(r.buf)-r.start)) }

func (r *rows) append4(ns ...uint32) {
	for _, n := range ns {
		r.buf = binary.BigEndian.AppendUint32(r.buf, n)
	}
}

func (r *rows) null(oid uint32) { r.append4(oid, 1<<32-1) }

func (r *rows) bool(yes bool) {
	b := byte(0)
	if yes {
		b = 1
	}
	r.append4(pgtype.BoolOID, 1)
	r.buf = append(r.buf, b)
}

func (r *rows) int2(n int64) {
	r.append4(pgtype.Int2OID, 2)
	r.buf = binary.BigEndian.AppendUint16(r.buf, uint16(n))
}

func (r *rows) int4(n int) { r.append4(pgtype.Int4OID, 4, uint32(n)) }

func (r *rows) int8(n int64) {
	r.append4(pgtype.Int8OID, 8)
	r.buf = binary.BigEndian.AppendUint64(r.buf, uint64(n))
}

// uuid appends NULL for the zero ID.
func (r *rows) uuid(id ulid.ULID) {
	if id == (ulid.ULID{}) {
		r.null(pgtype.UUIDOID)
		return
	}
	r.append4(pgtype.UUIDOID, 16)
	r.buf = append(r.buf, id[:]...)
}

// text appends NULL for "".
func (r *rows) text(s string) {
	if s == "" {
		r.null(pgtype.TextOID)
		return
	}
	s = escapeText(s)
	r.append4(pgtype.TextOID, uint32(len(s)))
	r.buf = append(r.buf, s...)
}

// bytea appends NULL for nil.
func (r *rows) bytea(b []byte) {
	if b == nil {
		r.null(pgtype.ByteaOID)
		return
	}
	r.append4(pgtype.ByteaOID, uint32(len(b)))
	r.buf = append(r.buf, b...)
}
