//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// An event happened on the Hub. Its sender repeats one request until an answer is 2xx.
type event struct {
	n         int
	repo      string // its repo's name, which no other event has
	endpoint  string
	webhookID string // "": the sender sends none
	plan      plan
	unusable  bool // authenticated JSON that is no event: dead at once
	body      []byte

	mu       sync.Mutex
	tries    int // requests that may have been stored
	answers  []answer
	replays  int             // asked for
	replayed map[string]bool // IDs of replays that were answered
	discards map[string]bool // IDs that a discard was requested for; true: answered 200
}

// An answer is a 2xx of the public server.
type answer struct {
	id    string
	state string // "" if the body is the handler's result
}

// newEvent makes up the nth event.
func (s *soak) newEvent(rnd *rand.Rand) *event {
	n := int(s.events.Add(1))
	e := &event{n: n, repo: fmt.Sprintf("%s/e%d", s.owner, n), replayed: map[string]bool{}, discards: map[string]bool{}}
	e.endpoint = s.endpoints[rnd.IntN(len(s.endpoints))]
	if rnd.IntN(10) > 0 {
		e.webhookID = fmt.Sprintf("%s-%d", s.owner, n)
	}
	e.plan = newPlan(rnd, e.endpoint)
	if e.plan.Do == die {
		// Without a Webhook-Id each try is a delivery of its own. Each kills the process before it can answer, so none would ever be accepted.
		e.webhookID = fmt.Sprintf("%s-%d", s.owner, n)
	}
	padding := ""
	switch roll := rnd.IntN(200); {
	case roll == 0:
		padding = noise(rnd, 100<<10)
	case roll == 1:
		padding = strings.Repeat("the same again ", 20_000)
	case roll < 20:
		padding = "\x00 \u2028 ünïcödé 🤗 <script>"
	}
	body := map[string]any{
		"event":   map[string]string{"action": "update", "scope": "repo.content"},
		"repo":    map[string]any{"type": "dataset", "name": e.repo},
		"webhook": map[string]any{"id": "6390e855e30d9209411de93b", "version": 3},
		planField: e.plan,
		"padding": padding,
	}
	if e.unusable = rnd.IntN(100) == 0; e.unusable {
		body["event"] = "update" // as in version 2 of the payload
	}
	var err error
	if e.body, err = json.Marshal(body); err != nil {
		panic(err) // maps, strings and numbers only
	}
	return e
}

func newPlan(rnd *rand.Rand, name string) plan {
	do := plan{Do: succeed}
	switch roll := rnd.IntN(100); {
	case roll < 3:
		do.MS = rnd.IntN(400)
	case roll < 50:
		do.MS = rnd.IntN(20)
	}
	e := endpoints[name]
	if e.timeout > 0 {
		do.MS = min(do.MS, 10)
	}
	if e.keys > 0 && rnd.IntN(10) > 0 { // without a key it is not debounced
		do.MS = min(do.MS, 10)
		do.Key = fmt.Sprint("k", rnd.IntN(e.keys))
	}
	if len(e.deeds) == 0 || rnd.IntN(5) > 0 {
		return do
	}
	do.Do = e.deeds[rnd.IntN(len(e.deeds))]
	do.Times = 1 + rnd.IntN(e.attempts+1)
	if do.Do == die {
		switch rnd.IntN(100) {
		case 0:
			do.Times = 100 // a poison
		case 1, 2, 3:
			do.Times = 1
		default:
			do.Do = fail
		}
	}
	return do
}

// noise returns a text that compresses badly.
func noise(rnd *rand.Rand, n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[rnd.IntN(len(letters))]
	}
	return string(b)
}

// accepted returns the ID in the first 2xx answer, and whether there was one.
func (e *event) accepted() (id string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.answers) == 0 {
		return "", false
	}
	return e.answers[0].id, true
}
