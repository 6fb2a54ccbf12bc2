package ui

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// event is one line of JSON: a view under its type and time.
type event[V any] struct {
	Type string    `json:"type"`
	Time time.Time `json:"time"`
	View V         `json:",inline"`
}

type deliveryJSON struct {
	ID         string    `json:"id"`
	Endpoint   string    `json:"endpoint"`
	State      string    `json:"state"`
	Reason     string    `json:"reason"`
	WebhookID  string    `json:"webhook_id"`
	ReplayOf   string    `json:"replay_of"`
	MergedInto string    `json:"merged_into"`
	Synthetic  bool      `json:"synthetic"`
	Duplicate  bool      `json:"duplicate,omitzero"`
	Received   time.Time `json:"received"`
	Event      struct {
		Scope  string `json:"scope"`
		Action string `json:"action"`
	} `json:"event"`
	Repo struct {
		Type string `json:"type"`
		Name string `json:"name"`
	} `json:"repo"`
	Attempts   int     `json:"attempts"`
	Duplicates int     `json:"duplicates"`
	DurationMS float64 `json:"duration_ms"`
}

type attemptJSON struct {
	Delivery   string    `json:"delivery"`
	Endpoint   string    `json:"endpoint"`
	N          int       `json:"n"`
	State      string    `json:"state"`
	DurationMS float64   `json:"duration_ms"`
	Error      string    `json:"error,omitzero"`
	Reason     string    `json:"reason,omitzero"` // of an end that is no failure
	Status     int       `json:"status,omitzero"`
	RetryAt    time.Time `json:"retry_at,omitzero"`
}

func (s *Screen) deliveryJSON(d Delivery) {
	v := deliveryJSON{
		ID: d.ID, Endpoint: d.Endpoint, State: d.State, Reason: d.Dead, WebhookID: d.WebhookID, ReplayOf: d.ReplayOf,
		MergedInto: d.MergedInto, Synthetic: d.Synthetic, Duplicate: d.Duplicate, Received: d.Received.UTC(),
		Attempts: d.Attempts, Duplicates: d.Duplicates, DurationMS: milliseconds(d.Duration),
	}
	v.Event.Scope, v.Event.Action = d.Scope, d.Action
	v.Repo.Type, v.Repo.Name = d.RepoType, d.RepoName
	if v.State == "" {
		v.State = "waiting"
		if d.Dead != "" {
			v.State = "dead"
		}
	}
	if d.Received.IsZero() {
		v.Received = s.now().UTC()
	}
	putJSON(s, "delivery", v, laneLimit)
}

func (s *Screen) outcomeJSON(o Outcome) {
	v := attemptJSON{
		Delivery: o.ID, Endpoint: o.Endpoint, N: o.Attempt, State: o.State, DurationMS: milliseconds(o.Duration), Status: o.Status,
	}
	switch o.State {
	case "retrying":
		v.Error, v.RetryAt = o.Reason, o.RetryAt.UTC()
	case "dead":
		v.Error = o.Reason
	default:
		v.Reason = o.Reason
	}
	putJSON(s, "attempt", v, laneLimit)
}

// milliseconds keeps microseconds, and nothing finer.
func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

var jsonLines = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func putJSON[V any](s *Screen, kind string, view V, limit int) {
	buf := jsonLines.Get().(*bytes.Buffer)
	buf.Reset()
	err := json.MarshalWrite(buf, event[V]{Type: kind, Time: s.now().UTC(), View: view}, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		s.Warn(Notice{Text: "printing a line of type " + kind + ": " + err.Error()})
		return
	}
	line := buf.Bytes()
	if needsEscape(line) {
		line = appendEscaped(nil, line)
	}
	s.out.put(append(line, '\n'), 1, limit)
	if buf.Cap() <= 4096 {
		jsonLines.Put(buf)
	}
}

// needsEscape reports whether text may hold more than printable ASCII.
func needsEscape(text []byte) bool {
	for _, c := range text {
		if c > '~' {
			return true
		}
	}
	return false
}

// appendEscaped escapes what JSON would let through and a terminal could obey. Outside ASCII there are strings only, so that an
// escape is right wherever it is needed.
func appendEscaped(dst, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case unicode.IsPrint(r):
			dst = append(dst, text[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		text = text[size:]
	}
	return dst
}

// tallyJSON adds the number of lines left out to the next object.
func tallyJSON(dst []byte, n int, line []byte) []byte {
	if line == nil {
		return dst
	}
	dst = append(dst, bytes.TrimSuffix(line, []byte("}\n"))...)
	dst = append(dst, `,"left_out":`...)
	return append(strconv.AppendInt(dst, int64(n), 10), "}\n"...)
}
