package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/oklog/ulid/v2"

	"github.com/hubhook/hubhook/internal/queue/store"
	"github.com/hubhook/hubhook/internal/text"
)

const (
	tellEvery     = 100 * time.Millisecond
	tellIDs       = 250              // IDs in one notification, which may have 8000 bytes
	tellMost      = 2000             // IDs at a time; with more, the others look for changes themselves
	pollEvery     = 2 * time.Second  // how often to look for changes where notifications do not arrive
	pollMost      = 1000             // unfinished deliveries that a poll watches
	aliveEvery    = 30 * time.Second // how often to ping a listening connection that hears nothing
	roundTrip     = 2 * time.Second  // the limit for a notification to arrive
	notifyChannel = "hubhook"        // one channel for the database, which has one schema hubhook
	everyone      = "all"            // in place of the sender's number, so that the sender acts on it as well
	aPing         = "ping"           // in place of the sender's number, to test whether notifications arrive
)

var notifyQuery = query("notify")

// told is what to tell other processes.
type told struct {
	ids  map[ulid.ULID]struct{}
	all  bool // there are more ids than tellMost
	due  bool // deliveries are due that no handler here is free for
	here bool // this process must hear it too, because its Queue did not make the change
}

// hints tells other processes of changes that are made here, and listens to theirs.
type hints struct {
	db      *database
	reads   *reads
	others  atomic.Int64  // other processes that were seen in the last 30 s
	telling chan struct{} // asks the teller to tell untold

	mu     sync.Mutex
	untold told
}

func newHints(db *database, r *reads) *hints {
	return &hints{db: db, reads: r, telling: make(chan struct{}, 1)}
}

// Tell implements store.Sharing.
func (h *hints) Tell(changed []ulid.ULID, due bool) {
	if h.others.Load() == 0 {
		return
	}
	h.note(changed, due, false)
}

// tellAll tells all processes, including this one.
func (h *hints) tellAll(changed []ulid.ULID) { h.note(changed, true, true) }

func (h *hints) note(changed []ulid.ULID, due, here bool) {
	h.mu.Lock()
	t := &h.untold
	if t.ids == nil {
		t.ids = map[ulid.ULID]struct{}{}
	}
	t.due, t.here = t.due || due, t.here || here
	for _, id := range changed {
		if len(t.ids) == tellMost {
			t.all = true
			break
		}
		t.ids[id] = struct{}{}
	}
	h.mu.Unlock()
	select {
	case h.telling <- struct{}{}:
	default:
	}
}

// teller sends the notifications, at most every tellEvery. No process relies on them, so a failed one is dropped.
func (h *hints) teller() {
	pause := time.NewTimer(tellEvery)
	defer pause.Stop()
	for {
		select {
		case <-h.db.life.Done():
			return
		case <-h.telling:
		}
		h.mu.Lock()
		t := h.untold
		h.untold = told{}
		h.mu.Unlock()
		ctx, cancel := context.WithTimeout(h.db.life, workFor)
		// Not on the connection that stores: there the notification would wait for a standby.
		_, _ = h.db.workers.Exec(ctx, notifyQuery, pgx.NamedArgs{"channel": notifyChannel, "lines": h.lines(t)})
		cancel()
		pause.Reset(tellEvery)
		select {
		case <-h.db.life.Done():
			return
		case <-pause.C:
		}
	}
}

// lines returns the text of notifications: the sender, whether deliveries are due, and IDs.
func (h *hints) lines(t told) []string {
	from := strconv.Itoa(int(h.db.process))
	if t.here {
		from = everyone
	}
	head := fmt.Sprintf("%s %t ", from, t.due)
	if t.all || len(t.ids) == 0 {
		return []string{head}
	}
	var lines []string
	for ids := range slices.Chunk(slices.SortedFunc(maps.Keys(t.ids), ulid.ULID.Compare), tellIDs) {
		lines = append(lines, head+strings.Join(column(ids, ulid.ULID.String), ","))
	}
	return lines
}

// heard reads a notification. ok is false if this process has nothing to do for it.
func (h *hints) heard(line string) (ids []ulid.ULID, due, ok bool) {
	from, rest, _ := strings.Cut(line, " ")
	switch from {
	case strconv.Itoa(int(h.db.process)):
		return nil, false, false
	case aPing: // another process has begun to listen; the next renewal counts it, until then this does
		h.others.CompareAndSwap(0, 1)
		return nil, false, false
	}
	isDue, list, _ := strings.Cut(rest, " ")
	for s := range strings.SplitSeq(list, ",") {
		if id, ok := store.ParseID(s); ok {
			ids = append(ids, id)
		}
	}
	return ids, isDue == "true", true
}

// Follow implements store.Sharing.
func (h *hints) Follow(ctx context.Context, changed func(ids []ulid.ULID, due bool)) {
	p := &poll{}
	pause := time.NewTimer(pollEvery)
	defer pause.Stop()
	for {
		err := h.listen(ctx, changed)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errNoNotifications) {
			h.db.cfg.Warn(text.WithHint(fmt.Errorf("listen to the database: %w; changes of other processes are looked for every %v", err, pollEvery),
				"use a direct connection, or a pooler in session mode, to see them at once"))
		}
		// Look once for changes that were missed while not listening. If notifications never arrive, go on looking.
		for {
			p.look(ctx, h.reads, changed)
			pause.Reset(pollEvery)
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			}
			if !errors.Is(err, errNoNotifications) {
				break
			}
		}
	}
}

// listen passes on notifications of other processes, until the connection is lost.
func (h *hints) listen(ctx context.Context, changed func(ids []ulid.ULID, due bool)) error {
	conn, err := pgx.ConnectConfig(ctx, h.db.conf)
	if err != nil {
		return err
	}
	defer func() { _ = h.db.closeConn(conn) }()
	if _, err := conn.Exec(ctx, "LISTEN "+notifyChannel); err != nil {
		return err
	}
	if err := h.tryWay(ctx, conn); err != nil {
		return err
	}
	changed(nil, true)
	for {
		quiet, cancel := context.WithTimeout(ctx, aliveEvery)
		n, err := conn.WaitForNotification(quiet)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			if ids, due, ok := h.heard(n.Payload); ok {
				changed(ids, due)
			}
		case conn.IsClosed():
			return err
		default:
			alive, cancel := context.WithTimeout(ctx, workFor)
			err := conn.Ping(alive)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}

// tryWay tests whether notifications arrive. The error is errNoNotifications if none does.
func (h *hints) tryWay(ctx context.Context, conn *pgx.Conn) error {
	line := fmt.Sprintf("%s %d", aPing, store.NewToken())
	if _, err := h.db.workers.Exec(ctx, notifyQuery, pgx.NamedArgs{"channel": notifyChannel, "lines": []string{line}}); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(wait)
		if err != nil {
			if wait.Err() != nil && ctx.Err() == nil {
				h.db.sessions.Store(false)
				return errNoNotifications
			}
			return err
		}
		if n.Payload == line {
			h.db.sessions.Store(true)
			return nil
		}
	}
}

// poll looks for changes that other processes made.
type poll struct {
	since ulid.ULID
	open  map[ulid.ULID]store.State // deliveries that were unfinished at the last look, and their states then
}

func (p *poll) look(ctx context.Context, r *reads, changed func(ids []ulid.ULID, due bool)) {
	if p.open == nil {
		p.open, p.since = map[ulid.ULID]store.State{}, r.db.newest
	}
	ds, err := r.queryDeliveries(ctx, "look for changes in the database", query("changes"), pgx.NamedArgs{
		"since": pgtype.UUID{Bytes: p.since, Valid: true}, "open": uuidsOf(slices.Collect(maps.Keys(p.open))), "limit": 2 * pollMost,
	})
	if err != nil {
		return // the connection that stores meets the same error, and reports it
	}
	var ids []ulid.ULID
	for _, d := range ds {
		id := store.IDOf(&d)
		before, seen := p.open[id]
		if seen && before == d.State {
			continue
		}
		ids = append(ids, id)
		if d.State.Finished() {
			delete(p.open, id)
		} else if seen || len(p.open) < pollMost {
			p.open[id] = d.State
		}
		if id.Compare(p.since) > 0 {
			p.since = id
		}
	}
	changed(ids, true)
}
