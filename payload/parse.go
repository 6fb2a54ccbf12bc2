package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Parse reads the body of a delivery. It keeps b as the result's Raw: b must not
// be changed afterwards.
//
// A body that is not one JSON object in UTF-8 is a [*SyntaxError], and there is
// no Payload. An object without a usable event.action, event.scope, repo.type or
// repo.name is a [*UnusableError], a payload of version 1 or 2 a [*VersionError];
// both are [ErrUnusable], and the Payload holds what could be read.
//
// Any other field may be missing, null, or of another shape than the Payload's
// field, which is then left at its zero value; so is an integer beyond 64 bits.
// [Payload.Lookup] has the field as it was sent.
//
// Names are matched exactly. Of two members with the same name the last one
// counts, as in JavaScript and Python. The escape of half a surrogate pair (\ud800
// alone) is read as U+FFFD, and \u0000 as the NUL it is: a string may hold any
// character. There is no limit to nesting or size but that of b.
func Parse(b []byte) (*Payload, error) {
	if err := checkStart(b); err != nil {
		return nil, err
	}
	p := &Payload{raw: b}
	d := decoder{scanner: scanner{b: b}}
	d.payload(p)
	if d.peek(); d.pos < len(b) {
		d.failHere("nothing after the object")
	}
	if d.err != nil {
		return nil, d.err
	}
	return p, d.check(p)
}

// checkStart refuses what is not UTF-8 or doesn't begin like an object.
func checkStart(b []byte) error {
	if !utf8.Valid(b) {
		at := 0
		for {
			r, size := utf8.DecodeRune(b[at:])
			if r == utf8.RuneError && size == 1 {
				return syntaxError(b, at, fmt.Sprintf("want UTF-8, have the byte 0x%02x", b[at]))
			}
			at += size
		}
	}
	if bytes.HasPrefix(b, []byte("\uFEFF")) {
		return syntaxError(b, 0, "want an object, have a byte order mark: send UTF-8 without one")
	}
	s := scanner{b: b}
	c := s.peek()
	if c == '{' {
		return nil
	}
	switch k := kindOf(c); {
	case len(b) == 0:
		s.fail(0, "want an object, have an empty body")
	case k == notAKind:
		s.failHere("an object")
	default:
		s.fail(s.pos, "want an object, have "+k.String())
	}
	return s.err
}

// decoder reads a payload's fields, and remembers the kinds of those that must
// be usable.
type decoder struct {
	scanner
	event, action, scope kind
	repo, repoType, name kind
	// In version 2, event was a string and had scope beside it.
	oldEvent, oldScope string
}

func (d *decoder) payload(p *Payload) {
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "event":
			d.readEvent(p)
		case "repo":
			d.readRepo(p)
		case "updatedRefs":
			p.UpdatedRefs = d.refs()
		case "updatedFiles":
			p.UpdatedFiles = d.files()
		case "updatedFilesTruncated":
			p.UpdatedFilesTruncated = d.bool()
		case "updatedConfig":
			p.UpdatedConfig = d.config()
		case "movedTo":
			p.MovedTo = d.movedTo()
		case "discussion":
			p.Discussion = d.discussion()
		case "comment":
			p.Comment = d.comment()
		case "webhook":
			p.Webhook = d.webhook()
		case "scope":
			d.oldScope = d.string()
		default:
			d.skip()
		}
	}
}

func (d *decoder) readEvent(p *Payload) {
	var e Event
	d.action, d.scope = missing, missing
	d.oldEvent = ""
	if d.event = d.value(); d.event == isString {
		d.oldEvent = d.string()
		p.Event = e
		return
	}
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "action":
			d.action = d.value()
			e.Action = Action(d.string())
		case "scope":
			d.scope = d.value()
			e.Scope = Scope(d.string())
		default:
			d.skip()
		}
	}
	p.Event = e
}

func (d *decoder) readRepo(p *Payload) {
	p.Repo = Repo{}
	r := &p.Repo
	d.repoType, d.name = missing, missing
	d.repo = d.value()
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "type":
			d.repoType = d.value()
			r.Type = RepoType(d.string())
		case "name":
			d.name = d.value()
			r.Name = d.string()
		case "id":
			r.ID = d.string()
		case "private":
			r.Private = d.bool()
		case "url":
			r.URL = d.url()
		case "owner":
			r.Owner = d.account()
		case "headSha":
			r.HeadSHA = d.string()
		case "subdomain":
			r.Subdomain = d.string()
		case "tags":
			r.Tags = d.tags()
		default:
			d.skip()
		}
	}
}

func (d *decoder) url() URL {
	var u URL
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "web":
			u.Web = d.string()
		case "api":
			u.API = d.string()
		default:
			d.skip()
		}
	}
	return u
}

func (d *decoder) account() Account {
	var a Account
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "id":
			a.ID = d.string()
		default:
			d.skip()
		}
	}
	return a
}

func (d *decoder) tags() []string {
	if d.value() != isArray {
		d.skip()
		return nil
	}
	tags := []string{}
	for ok := d.array(); ok; ok = d.element() {
		if d.value() == isString {
			tags = append(tags, d.string())
		} else {
			d.skip()
		}
	}
	return tags
}

func (d *decoder) refs() []Ref {
	if d.value() != isArray {
		d.skip()
		return nil
	}
	refs := []Ref{}
	for ok := d.array(); ok; ok = d.element() {
		var r Ref
		for ok := d.object(); ok; ok = d.member() {
			switch string(d.key) {
			case "ref":
				r.Ref = d.string()
			case "oldSha":
				r.OldSHA = d.sha()
			case "newSha":
				r.NewSHA = d.sha()
			default:
				d.skip()
			}
		}
		if r.Ref != "" {
			refs = append(refs, r)
		}
	}
	return refs
}

func (d *decoder) sha() SHA {
	null := d.value() == isNull
	return SHA{Hex: d.string(), Null: null}
}

// maxFiles is how many updatedFiles the Hub sends at most.
const maxFiles = 10_000

func (d *decoder) files() []File {
	if d.value() != isArray {
		d.skip()
		return nil
	}
	files := []File{}
	for ok := d.array(); ok; ok = d.element() {
		start := d.pos
		var f File
		for ok := d.object(); ok; ok = d.member() {
			switch string(d.key) {
			case "path":
				f.Path = d.string()
			case "action":
				f.Action = FileAction(d.string())
			case "xetHash":
				f.XetHash = d.string()
			case "size":
				f.Size = d.int()
			default:
				d.skip()
			}
		}
		if f.Path == "" {
			continue
		}
		if len(files) == 0 {
			// The others will be about as long as the first.
			more := (len(d.b) - d.pos) / (d.pos - start + 1)
			files = make([]File, 0, 1+min(more, maxFiles-1))
		}
		files = append(files, f)
	}
	return files
}

func (d *decoder) config() map[string]json.RawMessage {
	if d.value() != isObject {
		d.skip()
		return nil
	}
	config := map[string]json.RawMessage{}
	for ok := d.object(); ok; ok = d.member() {
		name := string(d.key)
		config[name] = d.raw()
	}
	return config
}

func (d *decoder) movedTo() *MovedTo {
	if d.value() != isObject {
		d.skip()
		return nil
	}
	m := new(MovedTo)
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "name":
			m.Name = d.string()
		case "owner":
			m.Owner = d.account()
		default:
			d.skip()
		}
	}
	return m
}

func (d *decoder) discussion() *Discussion {
	if d.value() != isObject {
		d.skip()
		return nil
	}
	x := new(Discussion)
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "id":
			x.ID = d.string()
		case "num":
			x.Num = d.int()
		case "title":
			x.Title = d.string()
		case "status":
			x.Status = DiscussionStatus(d.string())
		case "isPullRequest":
			x.IsPullRequest = d.bool()
		case "author":
			x.Author = d.account()
		case "url":
			x.URL = d.url()
		case "changes":
			x.Changes = d.changes()
		case "pinned":
			x.Pinned = d.bool()
		default:
			d.skip()
		}
	}
	return x
}

func (d *decoder) changes() *Changes {
	if d.value() != isObject {
		d.skip()
		return nil
	}
	c := new(Changes)
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "base":
			c.Base = d.string()
		case "mergeCommitId":
			c.MergeCommitID = d.sha()
		default:
			d.skip()
		}
	}
	return c
}

func (d *decoder) comment() *Comment {
	if d.value() != isObject {
		d.skip()
		return nil
	}
	c := new(Comment)
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "id":
			c.ID = d.string()
		case "author":
			c.Author = d.account()
		case "content":
			c.Content = d.string()
		case "hidden":
			c.Hidden = d.bool()
		case "url":
			c.URL = d.url()
		default:
			d.skip()
		}
	}
	return c
}

func (d *decoder) webhook() Webhook {
	var w Webhook
	for ok := d.object(); ok; ok = d.member() {
		switch string(d.key) {
		case "id":
			w.ID = d.string()
		case "version":
			w.Version = d.int()
		default:
			d.skip()
		}
	}
	return w
}

// check says whether p can be used, and completes a payload of version 2 with
// what version 3 has elsewhere.
func (d *decoder) check(p *Payload) error {
	old := p.Webhook.Version
	if old == 0 && d.oldEvent != "" && d.oldScope != "" {
		old = 2
	}
	if old == 1 || old == 2 {
		if d.event == isString {
			p.Event = Event{Action: Action(d.oldEvent), Scope: Scope(d.oldScope)}
		}
		return &VersionError{Version: old}
	}
	if p.Event.Action != "" && p.Event.Scope != "" && p.Repo.Type != "" && p.Repo.Name != "" {
		return nil
	}
	var bad []*FieldError
	needObject := func(path string, k kind) bool {
		if k != isObject {
			bad = append(bad, &FieldError{Path: path, Want: "an object", Have: k.String()})
		}
		return k == isObject
	}
	needText := func(path string, k kind, value string) {
		if k != isString {
			bad = append(bad, &FieldError{Path: path, Want: "a string", Have: k.String()})
		} else if value == "" {
			bad = append(bad, &FieldError{Path: path, Want: "a string", Have: "an empty one"})
		}
	}
	if needObject("event", d.event) {
		needText("event.action", d.action, string(p.Event.Action))
		needText("event.scope", d.scope, string(p.Event.Scope))
	}
	if needObject("repo", d.repo) {
		needText("repo.type", d.repoType, string(p.Repo.Type))
		needText("repo.name", d.name, p.Repo.Name)
	}
	return &UnusableError{Fields: bad}
}
