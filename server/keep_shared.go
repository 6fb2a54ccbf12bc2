package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
)

const (
	// Of the processes that share a database, the one that leads this task keeps the webhooks. What it stores has keys that begin with the
	// task's name, so the database refuses it once another process leads.
	keepTask   = "keep"
	recordMark = keepTask + "/webhooks"

	recordTimeout = 10 * time.Second
	// At its end the leading process waits this long for another one to lead. The others ask every 3 s whether they may.
	successorWithin = 4 * time.Second
	successorLook   = 200 * time.Millisecond
)

// sharedRecord keeps the record of webhooks in the database, so that each process that shares it can go on with the webhooks of another.
// Generated secrets are not stored, because nothing needs them: without a configured secret all deliveries are accepted, and the next process gives
// the webhook another secret.
type sharedRecord struct {
	q *queue.Queue

	// These belong to the keeper's goroutine.
	version int64
	tried   []byte // a record that was sent to the database and not answered; nil if there is none
}

// Load implements keep.Records.
func (s *sharedRecord) Load() (keep.Record, error) {
	stored, err := s.read()
	if err != nil {
		return keep.Record{}, err
	}
	s.version, s.tried = stored.Version, nil
	return decodeShared(stored)
}

func (s *sharedRecord) read() (queue.Mark, error) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	return sharedMark(s.q.Marks(ctx, recordMark))
}

// sharedMark picks the mark that has the record.
func sharedMark(marks []queue.Mark, err error) (queue.Mark, error) {
	if err != nil {
		return queue.Mark{}, fmt.Errorf("read the record of the Hub's webhooks: %w", err)
	}
	for _, m := range marks {
		if m.Key == recordMark {
			return m, nil
		}
	}
	return queue.Mark{Key: recordMark}, nil
}

func decodeShared(m queue.Mark) (keep.Record, error) {
	if len(m.Value) == 0 {
		return keep.Record{}, nil
	}
	return keep.DecodeRecord(m.Value, "the mark "+recordMark+" in the database")
}

// SharedRecord reads the record of webhooks from the database of the settings. Without a database the record is empty. SharedRecord changes nothing,
// and the server need not run.
func (s *Server) SharedRecord(ctx context.Context) (keep.Record, error) {
	if s.settings.Database == "" {
		return keep.Record{}, nil
	}
	m, err := sharedMark(queue.ReadMarks(ctx, s.settings.Database, recordMark))
	if err != nil {
		return keep.Record{}, err
	}
	return decodeShared(m)
}

// Save implements keep.Records.
func (s *sharedRecord) Save(r keep.Record) error {
	r.Entries = append([]*keep.Entry(nil), r.Entries...)
	for i, e := range r.Entries {
		plain := *e
		plain.Secret = ""
		r.Entries[i] = &plain
	}
	value, err := r.Encode()
	if err == nil {
		err = s.settle()
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	switch err = s.q.SetMark(ctx, queue.Mark{Key: recordMark, Value: value, Version: s.version}); {
	case err == nil:
		s.version++
		return nil
	case !errors.Is(err, queue.ErrMarkMoved) && !errors.Is(err, queue.ErrStopping):
		s.tried = value
	}
	return fmt.Errorf("store the record of the Hub's webhooks: %w", err)
}

// settle finds out whether the database stored the record that it did not answer.
func (s *sharedRecord) settle() error {
	if s.tried == nil {
		return nil
	}
	stored, err := s.read()
	if err != nil {
		return err
	}
	if stored.Version == s.version+1 && bytes.Equal(stored.Value, s.tried) {
		s.version++
	}
	s.tried = nil
	return nil
}

// succeeded waits a while for another process to lead, and reports whether one does. If so, that process releases the webhooks.
func (s *sharedRecord) succeeded(ctx context.Context) bool {
	if s.version == 0 {
		return true // there is nothing to release
	}
	ctx, cancel := context.WithTimeout(ctx, successorWithin)
	defer cancel()
	look := time.NewTicker(successorLook)
	defer look.Stop()
	for {
		if stored, err := s.read(); err == nil && stored.Version > s.version {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
}

// cleanWithin is how long CleanDatabase waits until no process leads. By then the lease of a process that died has ended.
const cleanWithin = 15 * time.Second

// CleanDatabase deletes the webhooks that hubhook has made on the Hub, and gives back those that it has borrowed, by the record in the database. Of
// config it uses Database, Secrets and Getenv. client asks the Hub. All processes that share the database have to be stopped.
func CleanDatabase(ctx context.Context, config Config, client *hub.Client) (cleaned []keep.Cleaned, err error) {
	settings, err := config.resolve()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hubhook-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// The processes decide for how long deliveries are kept, so this queue must remove none for its age or for their number.
	q, err := queue.Open(ctx, queue.Config{Dir: dir, Database: settings.Database, Keep: 100 * 365 * 24 * time.Hour, KeepCount: math.MaxInt32})
	if err != nil {
		return nil, err
	}
	defer q.Close()
	if err := q.Start(nil); err != nil {
		return nil, err
	}
	lead, done := context.WithCancel(ctx)
	defer done()
	late := time.AfterFunc(cleanWithin, done)
	defer late.Stop()
	led := false
	q.Lead(lead, keepTask, func(context.Context) {
		if led = late.Stop(); !led {
			return
		}
		defer done()
		c := keep.On(client)
		c.Records, c.Secrets, c.Another = &sharedRecord{q: q}, settings.Secrets, KeptElsewhere(settings.probeClient)
		cleaned, err = keep.Cleanup(ctx, c)
	})
	if !led && ctx.Err() == nil {
		return nil, text.WithHint(errors.New("another process that shares the database keeps the webhooks"), "stop all of them first")
	}
	return cleaned, err
}
