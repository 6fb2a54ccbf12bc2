//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the same engine as the queue's

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

const (
	interrupted = "interrupted" // begins the error of an attempt whose process died
	diedReason  = "the process died while it ran"
	deadAfter   = 5 // interruptions
)

// A found delivery is a stored delivery with everything that the soak knows of it.
type found struct {
	api.Delivery
	handling
	attempts []api.Attempt
	cut      int // attempts that were interrupted
	failed   int // attempts that failed
	// forgotten is how many attempts a killed PostgreSQL server can have lost. It syncs a commit with new deliveries. It does not sync a
	// commit with attempts alone, because a lost attempt only runs again.
	forgotten int

	survivor *found // the delivery that was handled in its place; nil if it was not merged
}

// compare reads the store at rest, the handlers' notes, and the answers to the events after number before, and compares them.
func (s *soak) compare(before int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	all, err := s.listAll(ctx)
	if err != nil {
		s.violation("%v", err)
		return
	}
	handled, wrong, err := readNotes(s.notes)
	if err != nil {
		s.violation("%v", err)
		return
	}
	for _, text := range wrong {
		s.violation("%s", text)
	}
	byRepo, byID := map[string][]*found{}, map[string]*found{}
	for _, d := range all {
		n, err := strconv.ParseInt(strings.TrimPrefix(d.Repo.Name, s.owner+"/e"), 10, 64)
		if err != nil || n <= before {
			continue // it belongs to an earlier round, or not to this run
		}
		f := &found{Delivery: d}
		if h := handled[d.ID]; h != nil {
			f.handling = *h
		}
		if err := s.lookClosely(ctx, f); err != nil {
			s.violation("%v", err)
			return
		}
		f.forgotten = min(max(0, f.starts-f.Attempts), s.times(postgresKilled))
		byRepo[d.Repo.Name] = append(byRepo[d.Repo.Name], f)
		byID[d.ID] = f
		delete(handled, d.ID)
	}
	for _, f := range byID {
		if err := wantSurvivor(f, byID); err != nil {
			s.violation("%s of %s is %s: %v", f.ID, f.Endpoint, f.State, err)
		}
	}
	for id := range handled {
		s.violation("%s was handled and is not stored", id)
	}
	s.mu.Lock()
	events := s.round
	s.mu.Unlock()
	for _, e := range events {
		s.compareEvent(e, byRepo[e.repo])
		delete(byRepo, e.repo)
	}
	for repo, ds := range byRepo {
		s.violation("%s of %s is stored and was refused, or never sent", ds[0].ID, repo)
	}
}

// listAll returns all deliveries, oldest first. It compares the lists by state and the counts with them.
func (s *soak) listAll(ctx context.Context) (all []api.Delivery, err error) {
	for try := 1; ; try++ {
		if all, err = s.list(ctx, ""); err != nil {
			return nil, err
		}
		mismatch, err := s.mismatch(ctx, all)
		if err != nil || mismatch == "" {
			slices.Reverse(all)
			return all, err
		}
		// Retention may remove old deliveries in between, but not each time.
		if try == 5 {
			s.violation("%s", mismatch)
			slices.Reverse(all)
			return all, nil
		}
	}
}

// mismatch says how the list of all deliveries differs from the lists by state and from the counts. It returns "" if they agree.
func (s *soak) mismatch(ctx context.Context, all []api.Delivery) (string, error) {
	states := map[string]queue.State{}
	tally := map[string]map[string]int64{}
	for _, d := range all {
		if _, twice := states[d.ID]; twice {
			return fmt.Sprintf("%s is listed twice", d.ID), nil
		}
		states[d.ID] = queue.State(d.State)
		if tally[d.Endpoint] == nil {
			tally[d.Endpoint] = map[string]int64{}
		}
		tally[d.Endpoint][d.State]++
	}
	n := 0
	for _, state := range queue.States() {
		ds, err := s.list(ctx, state)
		if err != nil {
			return "", err
		}
		for _, d := range ds {
			if states[d.ID] != state {
				return fmt.Sprintf("%s is %q among all, and in the list of those that are %s", d.ID, states[d.ID], state), nil
			}
		}
		n += len(ds)
	}
	if n != len(all) {
		return fmt.Sprintf("the lists by state have %d deliveries, the list of all %d", n, len(all)), nil
	}
	status, err := s.processes[0].inspector.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, byState := range status.CountsByEndpoint {
		maps.DeleteFunc(byState, func(_ string, n int64) bool { return n == 0 })
	}
	maps.DeleteFunc(status.CountsByEndpoint, func(_ string, byState map[string]int64) bool { return len(byState) == 0 })
	if !maps.EqualFunc(tally, status.CountsByEndpoint, maps.Equal[map[string]int64, map[string]int64]) {
		return fmt.Sprintf("the lists have %v, the counts are %v", tally, status.CountsByEndpoint), nil
	}
	return "", nil
}

// list returns the deliveries in a state, "" for all, newest first.
func (s *soak) list(ctx context.Context, state queue.State) ([]api.Delivery, error) {
	var all []api.Delivery
	filter := queue.Filter{State: state, Limit: 1000}
	for {
		page, err := s.processes[0].inspector.List(ctx, filter)
		if err != nil {
			return nil, fmt.Errorf("list the deliveries: %w", err)
		}
		all = append(all, page.Deliveries...)
		if page.Next == nil {
			return all, nil
		}
		filter.Before = *page.Next
	}
}

// lookClosely reads the attempts of a delivery, unless one attempt was enough.
func (s *soak) lookClosely(ctx context.Context, f *found) error {
	if f.State == string(queue.Done) && f.Attempts <= 1 && f.dones <= 1 {
		return nil
	}
	r, err := s.processes[0].inspector.Get(ctx, f.ID)
	if err != nil {
		return fmt.Errorf("read %s: %w", f.ID, err)
	}
	f.attempts = r.AttemptList
	for _, a := range f.attempts {
		switch {
		case strings.HasPrefix(a.Error, interrupted):
			f.cut++
		case a.Error != "":
			f.failed++
		}
	}
	return nil
}

// compareEvent compares the stored deliveries of an event, oldest first, with the answers to its senders and with its plan.
func (s *soak) compareEvent(e *event, stored []*found) {
	s.sums.events++
	wrong := func(format string, args ...any) {
		s.violation("event %d of %s (%+v, Webhook-Id %q): %s", e.n, e.endpoint, e.plan, e.webhookID, fmt.Sprintf(format, args...))
	}
	byID := map[string]*found{}
	var arrived []*found
	replays := 0
	for _, f := range stored {
		byID[f.ID] = f
		if f.ReplayOf == "" {
			arrived = append(arrived, f)
		} else {
			replays++
		}
		if err := e.judge(f); err != nil {
			wrong("%s is %s (%s) after %d attempts, %d interrupted and %d failed, started %d times and done %d times: %v",
				f.ID, f.State, f.Reason, f.Attempts, f.cut, f.failed, f.starts, f.dones, err)
		}
		if f.dones > 0 {
			s.sums.handled++
		}
		if f.dones > 1 {
			s.sums.again++
		}
	}
	s.sums.replays += replays
	if replays > e.replays {
		wrong("%d replays are stored, %d were asked for", replays, e.replays)
	}
	for id := range e.replayed {
		if byID[id] == nil {
			s.sums.lost++
			wrong("the replay %s is LOST", id)
		}
	}
	repeats := map[string]int{}
	if len(e.answers) > 0 {
		s.sums.accepted++
	}
	for _, a := range e.answers {
		f := byID[a.id]
		if f == nil {
			s.sums.lost++
			wrong("%s was answered %q and is LOST", a.id, a.state)
			continue
		}
		_, discarded := e.discards[a.id]
		switch state := queue.State(a.state); {
		case state == "duplicate":
			repeats[a.id]++
		case f.State == string(queue.Discarded) && discarded, f.Reason == diedReason, f.forgotten > 0:
			// hubhook answers with an outcome before it stores it. Meanwhile a discard can win, or the process can die and the delivery run again.
		case state.Finished() && f.State != string(state):
			wrong("%s was answered %s and is %s", a.id, state, f.State)
		case state == "" && f.State != string(queue.Done):
			wrong("%s was answered with its result and is %s", a.id, f.State)
		}
	}
	for id, n := range repeats {
		if known := byID[id].Duplicates; known < n || known >= e.tries {
			wrong("%s has %d duplicates; %d were answered in %d tries", id, known, n, e.tries)
		}
	}
	if len(arrived) > e.tries {
		wrong("%d are stored of %d tries", len(arrived), e.tries)
	}
	if e.webhookID == "" {
		return
	}
	// A repeat is accepted as new only after the earlier delivery, or the delivery that it was merged into, is dead or discarded.
	for i := 1; i < len(arrived); i++ {
		before := arrived[i-1]
		if before.survivor != nil {
			before = before.survivor
		}
		switch ended := before.ended(); {
		case before.State != string(queue.Dead) && before.State != string(queue.Discarded):
			wrong("%s is %s, and %s was accepted all the same", before.ID, before.State, arrived[i].ID)
		case before.State == string(queue.Dead) && ended.After(arrived[i].Received.Add(s.clockError())):
			wrong("%s was dead at %v, and %s accepted before, at %v", before.ID, ended, arrived[i].ID, arrived[i].Received)
		}
	}
}

// wantSurvivor checks that the surviving delivery's handler was told of this merged one, and that only merged deliveries name a survivor.
func wantSurvivor(f *found, byID map[string]*found) error {
	if (f.State == string(queue.Merged)) != (f.MergedInto != "") {
		return fmt.Errorf("it is merged into %q", f.MergedInto)
	}
	survivor := f
	for survivor.State == string(queue.Merged) {
		// IDs of several processes are not in the order in which the deliveries were stored.
		next := byID[survivor.MergedInto]
		if next == nil || next == f || next.Endpoint != f.Endpoint {
			return fmt.Errorf("%s is merged into %s, which is no other one of this endpoint", survivor.ID, survivor.MergedInto)
		}
		survivor = next
	}
	if survivor != f {
		f.survivor = survivor
	}
	if survivor != f && survivor.dones > 0 && !slices.Contains(survivor.merged, f.ID) {
		return fmt.Errorf("%s was handled, and not told of it, but of %q", survivor.ID, survivor.merged)
	}
	return nil
}

// clockError is how far apart the clocks of two processes may be.
func (s *soak) clockError() time.Duration {
	if s.cfg.sharing() {
		return 250 * time.Millisecond // they learn the server's clock over the network
	}
	return 5 * time.Millisecond
}

// ended is when the last attempt ended. It is the attempt's start if the end is unknown, and zero if there is no attempt.
func (f *found) ended() time.Time {
	if len(f.attempts) == 0 {
		return time.Time{}
	}
	last := f.attempts[len(f.attempts)-1]
	if last.DurationMS == nil || strings.HasPrefix(last.Error, interrupted) {
		return last.Started.Time
	}
	return last.Started.Add(time.Duration(*last.DurationMS) * time.Millisecond)
}

// judge says what is wrong with how a delivery ended.
func (e *event) judge(f *found) error {
	at := endpoints[e.endpoint]
	diedAway := f.State == string(queue.Dead) && f.Reason == diedReason
	tooSlow := f.State == string(queue.Dead) && at.timeout > 0 && strings.HasPrefix(f.Reason, "timed out") // on a stalled machine
	_, discarded := e.discards[f.ID]
	switch {
	case f.Endpoint != e.endpoint:
		return fmt.Errorf("it is one of the endpoint %s", f.Endpoint)
	case f.WebhookID != e.webhookID:
		return fmt.Errorf("its Webhook-Id is %q", f.WebhookID)
	case !queue.State(f.State).Finished():
		return fmt.Errorf("it is unfinished")
	case e.discards[f.ID] && f.State != string(queue.Discarded):
		return fmt.Errorf("it was discarded")
	case f.starts > f.Attempts+f.forgotten && f.State != string(queue.Discarded):
		return fmt.Errorf("it was started more often than there were attempts")
	case f.dones > f.cut+f.forgotten+1:
		return fmt.Errorf("that is more often than interruptions explain")
	case f.failed > max(1, at.attempts):
		return fmt.Errorf("it has at most %d attempts that fail", at.attempts)
	case f.attempts != nil && len(f.attempts) != f.Attempts && f.State != string(queue.Skipped) && f.State != string(queue.Discarded) && !e.unusable:
		return fmt.Errorf("%d attempts are listed", len(f.attempts))
	case diedAway && f.cut < deadAfter, f.cut > deadAfter:
		return fmt.Errorf("it is dead after %d interruptions", deadAfter)
	}
	want := queue.Done
	switch {
	case e.unusable:
		want = queue.Dead
	case e.plan.Do == decline:
		want = queue.Skipped
	case e.plan.Do == die && e.plan.Times >= deadAfter:
		want = queue.Dead
	case e.plan.Do != succeed && e.plan.Do != die && e.plan.Times >= at.attempts && f.cut == 0:
		want = queue.Dead
	case e.plan.Do != succeed && e.plan.Do != die && e.plan.Times >= at.attempts && f.State == string(queue.Dead):
		want = queue.Dead // the plan counts an interrupted attempt; the failed ones don't include it
	}
	switch {
	case f.State == string(queue.Discarded) && discarded, diedAway, tooSlow:
		return nil
	case f.State == string(queue.Merged) && at.debounced && e.plan.Key != "" && f.ReplayOf == "" && f.starts == 0:
		return nil
	case f.State != string(want):
		return fmt.Errorf("by its plan it has to be %s", want)
	case want == queue.Done && at.handled && f.dones == 0:
		return fmt.Errorf("it was not handled")
	case want == queue.Dead && f.dones > f.cut:
		return fmt.Errorf("it is dead though it was handled")
	}
	return nil
}

// wantSound runs SQLite's integrity check on a database that no process has open.
func wantSound(file string) error {
	said, err := queryText(file, "PRAGMA integrity_check")
	if err != nil || said != "ok" {
		return fmt.Errorf("the integrity check of %s says %q, %v", file, said, err)
	}
	return nil
}

// wantRow checks that a copy of the database holds a delivery of an event.
func wantRow(file, repo string) error {
	if n, err := queryText(file, "SELECT count(*) FROM delivery WHERE repo_name = ?", repo); err != nil || n == "0" {
		return fmt.Errorf("the copy %s has %s deliveries of %s, which was accepted before, %v", file, n, repo, err)
	}
	return nil
}

func queryText(file, query string, args ...any) (text string, err error) {
	source := url.URL{Scheme: "file", Path: file}
	db, err := sql.Open("sqlite", source.String())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return text, db.QueryRow(query, args...).Scan(&text)
}
