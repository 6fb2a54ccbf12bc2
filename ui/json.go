package ui

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/hubhook/hubhook/internal/text"
)

// object is a line of JSON under construction. Deliveries and attempts are written by hand: they come by the ten thousand.
type object struct{ buf []byte }

var objects = sync.Pool{New: func() any { return new(object) }}

func (s *Screen) object(kind string) *object {
	o := objects.Get().(*object)
	o.buf = append(o.buf[:0], '{')
	o.text("type", kind)
	o.time("time", s.now())
	return o
}

func (o *object) name(name string) {
	if o.buf[len(o.buf)-1] != '{' {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(o.buf, '"')
	o.buf = append(o.buf, name...)
	o.buf = append(o.buf, `":`...)
}

func (o *object) text(name, value string) {
	o.name(name)
	o.buf, _ = jsontext.AppendQuote(o.buf, value) // the error says that bytes which are no UTF-8 were replaced
}

func (o *object) number(name string, value int) {
	o.name(name)
	o.buf = strconv.AppendInt(o.buf, int64(value), 10)
}

func (o *object) truth(name string, value bool) {
	o.name(name)
	o.buf = strconv.AppendBool(o.buf, value)
}

func (o *object) time(name string, value time.Time) {
	o.name(name)
	o.buf = append(o.buf, '"')
	o.buf = value.UTC().AppendFormat(o.buf, time.RFC3339Nano)
	o.buf = append(o.buf, '"')
}

func (o *object) open(name string) {
	o.name(name)
	o.buf = append(o.buf, '{')
}

func (o *object) close() {
	o.buf = append(o.buf, '}')
}

// put ends the object and hands it over.
func (s *Screen) put(o *object, limit int) {
	o.close()
	o.buf = append(text.PrintableJSON(o.buf), '\n')
	s.out.put(o.buf, 1, limit)
	if cap(o.buf) <= 4096 {
		objects.Put(o)
	}
}

func (s *Screen) deliveryJSON(d Delivery) {
	state := d.State
	switch {
	case state != "":
	case d.Dead != "":
		state = "dead"
	default:
		state = "waiting"
	}
	received := d.Received
	if received.IsZero() {
		received = s.now()
	}
	o := s.object("delivery")
	o.text("id", d.ID)
	o.text("endpoint", d.Endpoint)
	o.text("state", state)
	o.text("reason", d.Dead)
	o.text("webhook_id", d.WebhookID)
	o.text("replay_of", d.ReplayOf)
	o.text("merged_into", d.MergedInto)
	o.truth("synthetic", d.Synthetic)
	if d.Duplicate {
		o.truth("duplicate", true)
	}
	o.time("received", received)
	o.open("event")
	o.text("scope", d.Scope)
	o.text("action", d.Action)
	o.close()
	o.open("repo")
	o.text("type", d.RepoType)
	o.text("name", d.RepoName)
	o.close()
	o.number("attempts", d.Attempts)
	o.number("duplicates", d.Duplicates)
	o.number("duration_ms", int(d.Duration.Milliseconds()))
	s.put(o, laneLimit)
}

func (s *Screen) outcomeJSON(v Outcome) {
	o := s.object("attempt")
	o.text("delivery", v.ID)
	o.text("endpoint", v.Endpoint)
	o.number("n", v.Attempt)
	o.text("state", v.State)
	o.number("duration_ms", int(v.Duration.Milliseconds()))
	switch {
	case v.Reason == "":
	case v.State == "retrying" || v.State == "dead":
		o.text("error", v.Reason)
	default:
		o.text("reason", v.Reason)
	}
	if v.Status != 0 {
		o.number("status", v.Status)
	}
	if !v.RetryAt.IsZero() {
		o.time("retry_at", v.RetryAt)
	}
	if v.MergedInto != "" {
		o.text("merged_into", v.MergedInto)
	}
	s.put(o, laneLimit)
}

// viewJSON prints a view that has JSON names of its own.
func (s *Screen) viewJSON(kind string, view any, limit int) {
	fields, err := marshal(view)
	if err != nil {
		s.Warn(Notice{Text: "printing a line of type " + kind + ": " + err.Error()})
		return
	}
	o := s.object(kind)
	o.buf = append(o.buf, ',')
	o.buf = append(o.buf, bytes.TrimSuffix(bytes.TrimPrefix(fields, []byte("{")), []byte("}\n"))...)
	s.put(o, limit)
}

// marshal returns v as one line of JSON, with <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	err := out.Encode(v)
	return b.Bytes(), err
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
