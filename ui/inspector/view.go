package inspector

import (
	"cmp"
	"encoding/json"
	"net/http"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

// ViewDelivery returns a stored delivery in the form of lists, the stream and --json.
func ViewDelivery(d *queue.Delivery) api.Delivery {
	v := api.Delivery{
		ID:         d.ID,
		Endpoint:   d.Endpoint,
		State:      string(d.State),
		Reason:     d.Reason,
		WebhookID:  d.WebhookID,
		ReplayOf:   d.ReplayOf,
		MergedInto: d.MergedInto,
		Source:     api.Source(d.Source()),
		Synthetic:  d.Synthetic,
		Received:   api.Time{Time: d.Received},
		Event:      api.Event{Scope: d.Scope, Action: d.Action},
		Repo:       api.Repo{Type: d.RepoType, Name: d.RepoName},
		Attempts:   d.Attempts,
		Duplicates: d.Duplicates,
		Replays:    d.Replays,
		DurationMS: api.Milliseconds(d.Duration),
		RunAt:      api.Time{Time: d.RunAt},
	}
	return v
}

// ViewAttempt returns the attempt of a change in the form of the stream and --json. If a delivery ended without an attempt, it returns that end.
func ViewAttempt(c *queue.Change) api.AttemptEvent {
	d := &c.Delivery
	v := api.AttemptEvent{
		Delivery:   d.ID,
		Endpoint:   d.Endpoint,
		N:          d.Attempts,
		State:      string(d.State),
		DurationMS: new(int64),
		RetryAt:    api.Time{Time: d.RunAt},
		MergedInto: d.MergedInto,
	}
	if a := c.Attempt; a != nil {
		v.N, v.Started, v.DurationMS, v.Error = a.N, api.Time{Time: a.Started}, durationOf(a), a.Error
		if !a.Ended { // the delivery's reason is still that of the attempt before
			return v
		}
	}
	if d.State == queue.Retrying || d.State == queue.Dead {
		v.Error = cmp.Or(v.Error, d.Reason)
	} else {
		v.Reason = d.Reason
	}
	return v
}

// viewRecord returns a stored delivery with its headers, body and attempts. If the body is no payload, there is no summary and no link.
func viewRecord(r *queue.Record) api.Record {
	v := api.Record{
		Delivery:    ViewDelivery(&r.Delivery),
		Links:       []payload.Link{},
		Merged:      r.Merged,
		Headers:     r.Header,
		Body:        string(r.Body),
		AttemptList: make([]api.Attempt, len(r.AttemptList)),
	}
	if p, _ := payload.Parse(r.Body); p != nil {
		v.Summary, v.Links = p.Summary(), linksOf(p)
	}
	if v.Merged == nil {
		v.Merged = []string{}
	}
	if v.Headers == nil {
		v.Headers = http.Header{}
	}
	for i, a := range r.AttemptList {
		v.AttemptList[i] = api.Attempt{
			N:          a.N,
			Started:    api.Time{Time: a.Started},
			DurationMS: durationOf(&a),
			Error:      a.Error,
			Stack:      a.Stack,
			Output:     string(a.Output),
		}
		if json.Valid(a.Result) {
			v.AttemptList[i].Result = a.Result
		}
	}
	return v
}

// durationOf returns nil for a running attempt.
func durationOf(a *queue.Attempt) *int64 {
	if !a.Ended {
		return nil
	}
	ms := api.Milliseconds(a.Duration)
	return &ms
}

// count fills in the numbers of deliveries, for every state of every endpoint.
func count(s *api.Status, counts queue.Counts) {
	s.Counts = make(map[string]int64, len(queue.States()))
	s.CountsByEndpoint = make(map[string]map[string]int64, len(counts))
	for _, state := range queue.States() {
		s.Counts[string(state)] = 0
	}
	for endpoint, byState := range counts {
		all := make(map[string]int64, len(queue.States()))
		for _, state := range queue.States() {
			all[string(state)] = byState[state]
			s.Counts[string(state)] += byState[state]
		}
		s.CountsByEndpoint[endpoint] = all
	}
}
