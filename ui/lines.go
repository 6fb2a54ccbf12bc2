package ui

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hubhook/hubhook/internal/api"
)

const (
	settingsURL = "https://huggingface.co/settings/webhooks"
	secretDocs  = "https://huggingface.co/docs/hub/webhooks#webhook-secret"

	// maxNameColumn is the widest that the column of endpoint names grows; longer names push the rest of their line.
	maxNameColumn = 40
	// detailWidth is the room between an endpoint's name and the delivery's ID.
	detailWidth = 46
)

// Ready prints the banner, and before it the warning that is due where no secret is configured.
func (s *Screen) Ready(r Ready) {
	for _, e := range r.Endpoints {
		s.fitName(e.Name)
	}
	if !r.Secret {
		s.warnNoSecret()
	}
	if s.out == nil {
		return
	}
	if s.json {
		if r.Endpoints == nil {
			r.Endpoints = []api.Endpoint{}
		}
		s.putJSON(&api.ReadyLine{Line: s.line(api.LineReady), Ready: r.Ready}, notable)
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	t.add(plain, "Running on local URL:   ")
	t.foreign(link, r.LocalURL, maxURL)
	t.end()
	if r.PublicURL != "" {
		t.add(plain, "Running on public URL:  ")
		t.foreign(link, r.PublicURL, maxURL)
		if r.Checking {
			t.add(faint, "  (checking)")
		}
		t.end()
	}
	if r.InspectorURL != "" {
		t.add(plain, "Inspector:              ")
		t.foreign(link, r.InspectorURL, maxURL)
		t.end()
	}
	t.end()
	if len(r.Endpoints) > 0 {
		t.ready(r)
	}
	t.add(plain, "Try it: ")
	t.add(strong, "hubhook trigger repo.content")
	if len(r.Endpoints) > 1 { // without it the command asks which one
		t.add(strong, " --endpoint ")
		t.foreign(strong, r.Endpoints[0].Name, maxURL)
	}
	if r.Keys {
		t.add(plain, "   (or press t)")
	}
	t.end()
	t.end()
	s.out.put(t.buf, t.count, notable)
}

// ready says which endpoints there are, and what to do with them.
func (t *lines) ready(r Ready) {
	list := r.Endpoints
	kept := slices.DeleteFunc(slices.Clone(r.Webhooks), func(w api.Webhook) bool { return w.State == "left" }) // lines say what becomes of those
	t.add(strong, "Webhooks are correctly setup and ready to use:")
	t.end()
	t.endpoints(list)
	left := false
	for _, e := range list {
		left = left || !slices.ContainsFunc(kept, func(w api.Webhook) bool { return w.Endpoint == e.Name })
	}
	if left && !r.OnlyFollows {
		t.add(plain, "Go to ")
		t.add(link, settingsURL)
		t.add(plain, " to setup your webhooks.")
		t.end()
	}
	t.follows(r)
	if len(kept) == 0 {
		return
	}
	if w := kept[0]; w.State == "failed" { // so early for one reason that all have
		t.add(bad, "No webhook is kept on the Hub: ")
		t.foreign(plain, w.Error, maxURL)
		t.end()
		t.hint(w.Hint)
		return
	}
	t.add(strong, "hubhook keeps these webhooks on the Hub right:")
	t.end()
	for _, w := range kept {
		t.add(plain, "  - ")
		t.foreign(plain, w.Endpoint, maxName)
		t.add(plain, ": ")
		if w.Borrowed {
			t.add(plain, "borrows webhook ")
			t.foreign(strong, w.ID, maxName)
		} else {
			t.add(plain, "watches ")
			t.foreign(strong, strings.Join(w.Watched, ", "), maxURL)
		}
		t.end()
	}
}

func (t *lines) endpoints(list []api.Endpoint) {
	for _, e := range list {
		t.add(plain, "  - POST ")
		t.foreign(link, e.URL, maxURL)
		t.end()
	}
}

func (s *Screen) warnNoSecret() {
	if s.errors == nil {
		return
	}
	t := newLines(s.errsPalette)
	defer t.free()
	t.add(careful, "Webhook secret is not defined. This means your webhook endpoints will be open to everyone.")
	t.end()
	t.add(plain, "  hint: set WEBHOOK_SECRET or pass --secret; see ")
	t.add(link, secretDocs)
	t.end()
	if s.errors == s.out && !s.json {
		t.end()
	}
	s.errors.put(t.buf, t.count, notable)
}

// Warn prints a warning or an error, with its hint on the lines below it. A hint of several lines keeps them.
func (s *Screen) Warn(n Notice) {
	if s.errors == nil {
		return
	}
	t := newLines(s.errsPalette)
	defer t.free()
	t.add(careful, "hubhook: ")
	t.foreign(plain, n.Text, maxURL)
	t.end()
	t.hint(n.Hint)
	s.errors.put(t.buf, t.count, notable)
}

// Info prints something worth knowing that is no trouble: to Output, or, where that is JSON, to Errors.
func (s *Screen) Info(n Notice) {
	to, p := s.out, s.outPalette
	if s.json {
		to, p = s.errors, s.errsPalette
	}
	if to == nil {
		return
	}
	t := newLines(p)
	defer t.free()
	t.foreign(plain, n.Text, maxURL)
	t.end()
	t.hint(n.Hint)
	to.put(t.buf, t.count, notable)
}

func (t *lines) hint(hint string) {
	if hint == "" {
		return
	}
	lead := "  hint: "
	for line := range strings.SplitSeq(strings.TrimRight(hint, "\n"), "\n") {
		t.add(faint, lead)
		t.foreign(plain, line, maxURL)
		t.end()
		lead = "        "
	}
}

// Delivery prints that a delivery has come.
func (s *Screen) Delivery(d api.Delivery) {
	if s.out == nil || s.out.full() {
		return
	}
	if s.json {
		s.putJSON(&api.DeliveryLine{Line: s.line(api.LineDelivery), Delivery: d}, laneLimit)
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	detail := s.begin(t, "--> ", arrow, d.Endpoint)
	gap := ""
	if d.Event != (api.Event{}) {
		t.foreign(plain, d.Event.Scope, maxName)
		if d.Event.Action != "" {
			t.add(plain, "/")
			t.foreign(plain, d.Event.Action, maxName)
		}
		gap = "  "
	}
	if d.Repo != (api.Repo{}) {
		t.add(plain, gap)
		t.foreign(faint, d.Repo.Type, maxName)
		if d.Repo.Type != "" && d.Repo.Name != "" {
			t.add(plain, " ")
		}
		t.foreign(strong, d.Repo.Name, maxName)
		gap = "  "
	}
	for _, mark := range [...]struct {
		on   bool
		word string
	}{{d.Synthetic, "(" + string(d.Source) + ")"}, {d.ReplayOf != "", "(replay)"}, {d.Duplicate, "(duplicate)"}} {
		if mark.on {
			t.add(plain, gap)
			t.add(careful, mark.word)
			gap = "  "
		}
	}
	if d.State == "dead" && !d.Duplicate {
		t.add(plain, gap)
		t.add(bad, "cannot be handled: ")
		t.foreign(plain, d.Reason, maxError)
	}
	s.finish(t, detail, d.ID)
}

// Outcome prints how an attempt ended, or a delivery without one.
func (s *Screen) Outcome(o Outcome) {
	if s.out == nil || s.out.full() {
		return
	}
	if s.json {
		s.putJSON(&api.AttemptLine{Line: s.line(api.LineAttempt), AttemptEvent: o.AttemptEvent}, laneLimit)
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	mood := moodOf(o.State)
	detail := s.begin(t, "<-- ", mood, o.Endpoint)
	switch o.State {
	case "done":
		t.add(mood, "done")
		if o.N > 0 {
			t.add(plain, " in ")
			t.duration(plain, o.Duration)
		}
		if o.N > 1 {
			t.add(plain, " (attempt ")
			t.number(plain, o.N)
			t.add(plain, ")")
		}
	case "retrying":
		t.add(mood, "failed")
		t.add(plain, " in ")
		t.duration(plain, o.Duration)
		t.reason(cmp.Or(o.Error, o.Reason))
		t.add(plain, "; retrying ")
		if wait := o.RetryAt.Sub(s.now()); wait <= 0 {
			t.add(plain, "now")
		} else {
			t.add(plain, "in ")
			t.duration(plain, roundWait(wait))
		}
		t.add(plain, " (attempt ")
		t.number(plain, o.N+1)
		if o.Attempts > 0 {
			t.add(plain, " of ")
			t.number(plain, o.Attempts)
		}
		t.add(plain, ")")
	case "dead":
		t.add(mood, "dead")
		switch {
		case o.N == 1:
			t.add(plain, " after 1 attempt")
		case o.N > 1:
			t.add(plain, " after ")
			t.number(plain, o.N)
			t.add(plain, " attempts")
		}
		t.reason(cmp.Or(o.Error, o.Reason))
	case "waiting":
		t.add(mood, "handed back")
		if o.N > 0 {
			t.add(plain, " after ")
			t.duration(plain, o.Duration)
		}
		t.reason(cmp.Or(o.Error, o.Reason))
		t.add(plain, "; it runs again at the next start")
	case "merged":
		t.add(mood, "merged")
		if o.MergedInto != "" {
			t.add(plain, " into ")
			s.delivery(t, plain, o.MergedInto)
		}
	default:
		t.foreign(mood, o.State, maxName)
		t.reason(cmp.Or(o.Error, o.Reason))
	}
	if o.Status != 0 {
		t.add(plain, "  ")
		t.number(faint, o.Status)
	}
	s.finish(t, detail, o.Delivery)
}

func (t *lines) reason(reason string) {
	if reason != "" {
		t.add(plain, ": ")
		t.foreign(plain, reason, maxError)
	}
}

func moodOf(state string) style {
	switch state {
	case "done":
		return good
	case "retrying", "waiting":
		return careful
	case "dead":
		return bad
	}
	return faint
}

// roundWait takes off the odd milliseconds that passed since the wait was chosen.
func roundWait(d time.Duration) time.Duration {
	if d < time.Second/2 {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second / 10)
}

// Rejected prints that a request was refused, and what to fix.
func (s *Screen) Rejected(r api.Rejected) {
	if s.out == nil || s.out.full() {
		return
	}
	if s.json {
		s.putJSON(&api.RejectedLine{Type: api.LineRejected, Rejected: r}, laneLimit)
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	s.pastName(t, "<-- ", bad, r.Endpoint)
	t.number(bad, r.Status)
	t.reason(r.Error)
	if r.Fix != "" {
		t.add(plain, "; ")
		t.foreign(plain, r.Fix, maxError)
	}
	t.end()
	s.out.put(t.buf, t.count, laneLimit)
}

// Tunnel prints what the tunnel does. Trouble is a warning too, with its hint.
func (s *Screen) Tunnel(v api.TunnelChange) {
	if s.json && s.out != nil {
		s.putJSON(&api.TunnelLine{Type: api.LineTunnel, TunnelChange: v}, notable)
	}
	way := v.URL
	if way == "" {
		way = "the public URL"
	}
	trouble := func(what string) {
		if v.Error != "" {
			what += ": " + v.Error
		}
		s.Warn(Notice{Text: what, Hint: v.Hint})
	}
	switch v.Phase {
	case "failed":
		trouble("opening the " + v.Provider + " tunnel")
		return
	case "unreachable":
		trouble(way + " does not lead here")
		return
	case "reconnecting":
		trouble("the " + v.Provider + " tunnel is down, reconnecting")
		return
	}
	if s.json || s.out == nil {
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	switch v.Phase {
	case "url changed":
		t.end()
		t.add(careful, "THE PUBLIC URL HAS CHANGED. It is now ")
		t.foreign(link, v.URL, maxURL)
		t.end()
	case "unchecked":
		t.foreign(link, way, maxURL)
		t.add(plain, " could not be checked from here, which proves nothing")
		t.reason(v.Error)
		t.end()
	case "reachable":
		t.foreign(link, way, maxURL)
		t.add(good, " is reachable.")
		t.end()
	default:
		t.add(plain, "Tunnel ")
		if v.Provider != "" {
			t.add(plain, "(")
			t.foreign(plain, v.Provider, maxName)
			t.add(plain, ") ")
		}
		t.foreign(moodOfPhase(v.Phase), v.Phase, maxName)
		t.reason(v.Error)
		if v.URL != "" {
			t.add(plain, ": ")
			t.foreign(link, v.URL, maxURL)
		}
		t.end()
		t.hint(v.Hint)
	}
	if len(v.Endpoints) > 0 && !v.Kept {
		t.add(strong, "Paste these into "+settingsURL+":")
		t.end()
		t.endpoints(v.Endpoints)
		t.end()
	}
	s.out.put(t.buf, t.count, notable)
}

func moodOfPhase(phase string) style {
	if phase == "online" {
		return good
	}
	return faint
}

// Webhook prints what becomes of a webhook on the Hub that hubhook keeps. Trouble is a warning, with its hint.
func (s *Screen) Webhook(c api.WebhookChange) {
	if s.json && s.out != nil {
		s.putJSON(&api.WebhookLine{Line: s.line(api.LineWebhook), WebhookChange: c}, notable)
	}
	what := c.Text
	if c.Error != "" && c.Again && what == "" {
		return
	}
	if c.Error != "" {
		if what != "" {
			what += "; "
		}
		s.Warn(Notice{Text: "webhook of " + c.Endpoint + " on the Hub: " + what + c.Error, Hint: c.Hint})
		return
	}
	if s.json || s.out == nil {
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	t.add(plain, "Webhook of ")
	t.foreign(plain, c.Endpoint, maxName)
	t.add(plain, " on the Hub is ")
	t.foreign(moodOfWebhook(c.State), c.State, maxName)
	if what != "" {
		t.add(plain, ": ")
		t.foreign(plain, what, maxURL)
	}
	t.add(plain, ".")
	t.end()
	s.out.put(t.buf, t.count, notable)
}

func moodOfWebhook(state string) style {
	switch state {
	case "active", "returned":
		return good
	case "suspended", "taken", "failed":
		return bad
	}
	return faint
}

// Stopped prints the end.
func (s *Screen) Stopped(v Stopped) {
	if s.out == nil {
		return
	}
	if s.json {
		s.putJSON(&api.StoppedLine{Line: s.line(api.LineStopped), Stopped: v.Stopped}, notable)
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	t.add(plain, "Stopped")
	t.reason(v.Reason)
	t.add(plain, ".")
	if v.Unfinished > 0 {
		t.add(plain, " ")
		t.number(strong, v.Unfinished)
		if v.Unfinished == 1 {
			t.add(plain, " delivery is unfinished and runs at the next start.")
		} else {
			t.add(plain, " deliveries are unfinished and run at the next start.")
		}
	}
	t.end()
	if v.HadTunnel {
		t.add(careful, "The Hub still posts to this URL; ")
		t.add(plain, "disable the webhook at ")
		t.add(link, settingsURL)
		t.add(plain, ", or run with --watch.")
		t.end()
	}
	s.out.put(t.buf, t.count, notable)
}

// fitName widens the column of endpoint names.
func (s *Screen) fitName(name string) {
	width := int32(min(utf8.RuneCountInString(name), maxNameColumn))
	for {
		now := s.nameWidth.Load()
		if width <= now || s.nameWidth.CompareAndSwap(now, width) {
			return
		}
	}
}

// begin writes the arrow and the endpoint's name, and returns the column where the rest begins.
func (s *Screen) begin(t *lines, arrow string, mood style, endpoint string) int {
	s.fitName(endpoint)
	return s.pastName(t, arrow, mood, endpoint)
}

// pastName is begin for a name that anybody could have sent: it widens nothing.
func (s *Screen) pastName(t *lines, arrow string, mood style, endpoint string) int {
	t.add(mood, arrow)
	t.foreign(plain, endpoint, maxName)
	column := len(arrow) + int(s.nameWidth.Load()) + 2
	t.add(plain, "  ")
	t.pad(column)
	return column
}

// finish writes the delivery's ID, in full: in its column, or after what is too long for that. Where the line has no room, the ID
// gets one of its own.
func (s *Screen) finish(t *lines, detail int, id string) {
	column := detail + detailWidth + 2
	if s.width != nil {
		if width := s.width(); width > 0 {
			if t.column+2+len(id) > width {
				t.end()
				column = min(detail, max(width-len(id), 0))
			} else {
				column = min(column, width-len(id))
			}
		}
	}
	if t.column > 0 {
		t.add(plain, "  ")
	}
	t.pad(column)
	s.delivery(t, faint, id)
	t.end()
	s.out.put(t.buf, t.count, laneLimit)
}

// delivery writes a delivery's ID, which leads to its page where there is one.
func (s *Screen) delivery(t *lines, mood style, id string) {
	target := ""
	if page := s.deliveryPage.Load(); page != nil {
		target = (*page)(id)
	}
	t.linked(mood, id, maxName, target)
}

// notable is the limit for what is rarer than an event line.
const notable = laneLimit + laneReserve

func tallyText(dst []byte, n int, line []byte) []byte {
	dst = append(dst, "... "...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	if n == 1 {
		dst = append(dst, " line was"...)
	} else {
		dst = append(dst, " lines were"...)
	}
	dst = append(dst, " left out here: they came faster than they could be shown\n"...)
	return append(dst, line...)
}
