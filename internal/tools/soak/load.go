//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hubhook/hubhook/ui/inspector"
)

// sendTime is how long an event may take to be accepted, faults included.
const sendTime = 2 * time.Minute

// load sends events one after the other until ctx ends. It sends the last one until it is accepted.
func (s *soak) load(ctx context.Context, rnd *rand.Rand) {
	for ctx.Err() == nil {
		switch roll := rnd.IntN(1000); {
		case roll < 15:
			s.misbehave(rnd)
		case roll < 17:
			s.burst(rnd)
		case roll < 40:
			if e := s.recent(rnd); e != nil && e.webhookID != "" {
				s.post(s.anyProcess(rnd), e) // the Hub sends it once more, long after its answer
			}
		default:
			e := s.newEvent(rnd)
			s.note(e)
			s.send(rnd, e)
		}
		_ = sleep(ctx, time.Duration(rnd.IntN(int(4*time.Millisecond))))
	}
}

// burst sends many events at once.
func (s *soak) burst(rnd *rand.Rand) {
	s.count("burst")
	for range 50 + rnd.IntN(100) {
		e, seed := s.newEvent(rnd), rnd.Uint64()
		s.note(e)
		s.tasks.Go(func() { s.send(rand.New(rand.NewPCG(seed, 0)), e) })
	}
}

// send posts an event until it is accepted, as the Hub does, and now and then once more.
func (s *soak) send(rnd *rand.Rand, e *event) {
	deadline := time.Now().Add(sendTime)
	for {
		if rnd.IntN(50) == 0 && e.webhookID != "" {
			other := s.anyProcess(rnd)
			s.tasks.Go(func() { s.post(other, e) })
		}
		if s.post(s.anyProcess(rnd), e) {
			break
		}
		if time.Now().After(deadline) {
			s.violation("event %d of %s was not accepted within %v", e.n, e.endpoint, sendTime)
			return
		}
		time.Sleep(time.Duration(5+rnd.IntN(50)) * time.Millisecond)
	}
	if rnd.IntN(20) == 0 && e.webhookID != "" {
		s.post(s.anyProcess(rnd), e)
	}
}

// post sends an event once and reports whether it was accepted.
func (s *soak) post(p *process, e *event) bool {
	e.mu.Lock()
	e.tries++
	e.mu.Unlock()
	status, header, body, err := s.request(p, e.endpoint, e.body, "X-Webhook-Secret", secret, "Webhook-Id", e.webhookID)
	switch {
	case err != nil:
		s.count("requests without an answer")
		return false
	case status == http.StatusServiceUnavailable:
		s.count("answered 503")
		if seconds, err := strconv.Atoi(header.Get("Retry-After")); err != nil || seconds <= 0 {
			s.violation("503 for event %d has the Retry-After %q", e.n, header.Get("Retry-After"))
		}
		return false
	case status != http.StatusOK && status != http.StatusAccepted:
		s.violation("event %d of %s was answered %d %.200s", e.n, e.endpoint, status, body)
		return false
	}
	a := answer{id: header.Get("Hubhook-Delivery")}
	var said struct {
		Delivery, State, Repo string
	}
	if err := json.Unmarshal(body, &said); err != nil || a.id == "" {
		s.violation("event %d of %s was answered %d %.200s with the ID %q", e.n, e.endpoint, status, body, a.id)
		return false
	}
	a.state = said.State
	// While the database is out of reach, no process can answer with the result of another process's handler.
	told := endpoints[e.endpoint].handled && !(s.postgres != nil && string(body) == "{}")
	if said.Delivery != a.id && (said.Delivery != "" || told) || said.Repo != "" && said.Repo != e.repo {
		s.violation("event %d (%s) was answered %d %.200s with the ID %s: that is of another one", e.n, e.repo, status, body, a.id)
	}
	e.mu.Lock()
	e.answers = append(e.answers, a)
	e.mu.Unlock()
	if a.state == "duplicate" {
		s.duplicates.Add(1)
	} else {
		s.stored.Add(1)
	}
	return true
}

// request posts a body. Headers are name and value in turn; those without a value are left out.
func (s *soak) request(p *process, endpoint string, body []byte, headers ...string) (int, http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/webhooks/"+endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	response, err := s.client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, answer, err
}

// misbehave sends requests that must be refused, and good requests in an odd form.
func (s *soak) misbehave(rnd *rand.Rand) {
	p, e := s.anyProcess(rnd), s.newEvent(rnd)
	refused := func(kind string, want int, body []byte, headers ...string) {
		s.count(kind)
		status, _, text, err := s.request(p, e.endpoint, body, headers...)
		if err == nil && status != want && status != http.StatusServiceUnavailable {
			s.violation("%s was answered %d %.200s; want %d", kind, status, text, want)
		}
	}
	switch rnd.IntN(9) {
	case 0:
		refused("malformed JSON", http.StatusUnprocessableEntity, e.body[:rnd.IntN(len(e.body)-1)], "X-Webhook-Secret", secret)
	case 1:
		refused("no object", http.StatusUnprocessableEntity, []byte(`[`+string(e.body)+`]`), "X-Webhook-Secret", secret)
	case 2:
		refused("no UTF-8", http.StatusUnprocessableEntity, bytes.Replace(e.body, []byte(`"padding":"`), []byte("\"padding\":\"\xff"), 1), "X-Webhook-Secret", secret)
	case 3:
		refused("wrong secret", http.StatusForbidden, e.body, "X-Webhook-Secret", secret+"x")
	case 4:
		refused("no secret", http.StatusUnauthorized, e.body)
	case 5:
		s.count("huge body")
		head := s.head(p, e, 17<<20)
		status, err := s.raw(p, func(c net.Conn) error { _, err := io.WriteString(c, head); return err })
		if err == nil && status != http.StatusRequestEntityTooLarge {
			s.violation("a body of 17 MiB was answered %d", status)
		}
	case 6:
		s.count("cut body")
		head, part := s.head(p, e, len(e.body)), e.body[:rnd.IntN(len(e.body))]
		_, err := s.raw(p, func(c net.Conn) error {
			_, err := io.WriteString(c, head+string(part))
			return errors.Join(err, c.(*net.TCPConn).CloseWrite())
		})
		_ = err // nobody waits for the answer
	case 7:
		s.count("sender that hangs up")
		s.note(e)
		e.mu.Lock()
		e.tries++ // it may have been stored
		e.mu.Unlock()
		head := s.head(p, e, len(e.body))
		_, err := s.raw(p, func(c net.Conn) error {
			_, err := io.WriteString(c, head+string(e.body))
			return errors.Join(err, c.Close())
		})
		_ = err // nobody waits for the answer
	case 8:
		s.count("slow sender")
		s.note(e)
		s.tasks.Go(func() { s.sendSlowly(p, e) })
	}
}

// sendSlowly sends an event in pieces, and then, if it was not accepted, in the ordinary way.
func (s *soak) sendSlowly(p *process, e *event) {
	e.mu.Lock()
	e.tries++
	e.mu.Unlock()
	head := s.head(p, e, len(e.body))
	status, err := s.raw(p, func(c net.Conn) error {
		pieces := []string{head[:20], head[20:], string(e.body[:len(e.body)/2]), string(e.body[len(e.body)/2:])}
		for _, piece := range pieces {
			if _, err := io.WriteString(c, piece); err != nil {
				return err
			}
			time.Sleep(200 * time.Millisecond)
		}
		return nil
	})
	if err == nil && status != http.StatusOK && status != http.StatusAccepted && status != http.StatusServiceUnavailable && status != http.StatusBadRequest {
		s.violation("event %d, sent slowly, was answered %d", e.n, status)
	}
	s.send(rand.New(rand.NewPCG(s.cfg.seed, uint64(e.n))), e)
}

// head returns the head of a request for an event whose body has length bytes.
func (s *soak) head(p *process, e *event, length int) string {
	lines := []string{"POST /webhooks/" + e.endpoint + " HTTP/1.1", "Host: " + strings.TrimPrefix(p.base, "http://"), "X-Webhook-Secret: " + secret,
		fmt.Sprintf("Content-Length: %d", length)}
	if e.webhookID != "" {
		lines = append(lines, "Webhook-Id: "+e.webhookID)
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// raw opens a connection, lets write send a request on it, and returns the status of the answer.
func (s *soak) raw(p *process, write func(net.Conn) error) (status int, err error) {
	u, err := url.Parse(p.base)
	if err != nil {
		return 0, err
	}
	c, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := errors.Join(c.SetDeadline(time.Now().Add(15*time.Second)), write(c)); err != nil {
		return 0, err
	}
	b := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(c, b); err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b[len(b)-3:]))
}

// replayAndDiscard replays and discards recent deliveries until ctx ends.
func (s *soak) replayAndDiscard(ctx context.Context, rnd *rand.Rand) {
	for sleep(ctx, time.Duration(rnd.IntN(int(100*time.Millisecond)))) == nil {
		e := s.recent(rnd)
		if e == nil || e.plan.Do == die {
			continue
		}
		id, ok := e.accepted()
		if !ok {
			continue
		}
		if rnd.IntN(2) == 0 {
			s.replay(s.anyProcess(rnd), e, id)
		} else {
			s.discard(s.anyProcess(rnd), e, id)
		}
	}
}

func (s *soak) replay(p *process, e *event, id string) {
	s.count("replay")
	e.mu.Lock()
	e.replays++
	e.mu.Unlock()
	replay, err := p.inspector.Replay(context.Background(), id, nil)
	if err == nil {
		e.mu.Lock()
		e.replayed[replay] = true
		e.mu.Unlock()
	} else if status := statusOf(err); status != 0 && status != http.StatusServiceUnavailable {
		s.violation("replay %s: %v", id, err)
	}
}

func (s *soak) discard(p *process, e *event, id string) {
	s.count("discard")
	e.mu.Lock()
	e.discards[id] = e.discards[id] || false
	e.mu.Unlock()
	err := p.inspector.Discard(context.Background(), id)
	switch status := statusOf(err); {
	case err == nil:
		e.mu.Lock()
		e.discards[id] = true
		e.mu.Unlock()
	case status == http.StatusNotFound:
		s.violation("event %d was answered with the ID %s, and to discard that says: %v", e.n, id, err)
	case status != 0 && status != http.StatusConflict && status != http.StatusServiceUnavailable:
		s.violation("discard %s: %v", id, err)
	}
}

// statusOf returns the status of an inspector's refusal, 0 if none answered.
func statusOf(err error) int {
	var refused *inspector.StatusError
	if errors.As(err, &refused) {
		return refused.Status
	}
	return 0
}
