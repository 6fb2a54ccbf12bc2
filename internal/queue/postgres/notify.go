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
	tellIDs       = 250              // in one notification, which may have 8000 bytes
	tellMost      = 2000             // at a time; with more, others are told to look for themselves
	pollEvery     = 2 * time.Second  // where notifications do not arrive
	pollMost      = 1000             // deliveries looked at by one poll
	aliveEvery    = 30 * time.Second // a quiet connection that listens is tried
	roundTrip     = 2 * time.Second  // what a notification may take
	notifyChannel = "hubhook"        // one for the database, as the schema is
	everyone      = "all"            // in place of the sender: it wants to hear it too
	aPing         = "ping"           // a notification that only tries the way
)

var notifyQuery = query("notify")

// told is what other processes are to be told.
type told struct {
	ids  map[ulid.ULID]struct{}
	all  bool // there are too many ids
	due  bool
	here bool // this process too: what happened was nothing that its Queue has done
}

// hints tells other processes what changes here, and hears what they tell.
type hints struct {
	db      *database
	reads   *reads
	others  atomic.Int64  // processes that were at work lately, besides this one
	telling chan struct{} // asks for what is untold to be told

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

// tellAll tells all processes, this one too.
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

// teller tells what has changed, not too often. Nobody relies on it, so what can't be told is let go.
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
		// In a transaction of its own, and on another connection than the one that stores: it would wait for a standby there.
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

// lines returns notifications: the sender, whether something is due, and ids.
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

// heard reads a notification. ok is false for one that is not for this process.
func (h *hints) heard(line string) (ids []ulid.ULID, due, ok bool) {
	from, rest, _ := strings.Cut(line, " ")
	switch from {
	case strconv.Itoa(int(h.db.process)):
		return nil, false, false
	case aPing: // another process has begun to listen; until the next renewal nobody else tells of it
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
		// What happened while nobody listened is looked for, and so is what goes on where listening is no use.
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

// listen passes on what other processes tell, until the connection is lost.
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

// tryWay finds out whether notifications arrive.
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
				return errNoNotifications
			}
			return err
		}
		if n.Payload == line {
			return nil
		}
	}
}

// poll looks for what other processes have changed.
type poll struct {
	since ulid.ULID
	open  map[ulid.ULID]store.State // deliveries that were unfinished when they were last looked at
}

func (p *poll) look(ctx context.Context, r *reads, changed func(ids []ulid.ULID, due bool)) {
	if p.open == nil {
		p.open, p.since = map[ulid.ULID]store.State{}, r.db.newest
	}
	ds, err := r.queryDeliveries(ctx, "look for changes in the database", query("changes"), pgx.NamedArgs{
		"since": pgtype.UUID{Bytes: p.since, Valid: true}, "open": uuidsOf(slices.Collect(maps.Keys(p.open))), "limit": 2 * pollMost,
	})
	if err != nil {
		return // whatever is wrong is met, and said, where deliveries are stored
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
