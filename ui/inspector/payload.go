package inspector

import (
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/hubhook/hubhook/payload"
)

// readPayload reads a payload as the front door does, and stores nothing.
func (in *Inspector) readPayload(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Body jsontext.Value `json:"body"`
		Text *string        `json:"text"`
	}
	if err := decode(w, r, maxBody, &request); err != nil {
		fail(w, "reading a payload", err)
		return
	}
	switch {
	case request.Text != nil && request.Body != nil:
		writeError(w, http.StatusUnprocessableEntity, "give the payload as body or as text, not both")
		return
	case request.Text != nil:
		writeJSON(w, http.StatusOK, read([]byte(*request.Text)))
		return
	case request.Body == nil:
		writeError(w, http.StatusUnprocessableEntity, `body is missing; give the payload in it, {"body": {...}}`)
		return
	case request.Body.Kind() != '{':
		writeError(w, http.StatusUnprocessableEntity, "body: want an object, have "+kindName(request.Body.Kind()))
		return
	}
	reading := read(request.Body)
	if reading.Refused != "" {
		writeError(w, http.StatusUnprocessableEntity, "body: "+reading.Refused)
		return
	}
	writeJSON(w, http.StatusOK, reading)
}

// read says what the front door makes of a body.
func read(body []byte) Reading {
	p, err := payload.Parse(body)
	if p == nil {
		return Reading{Links: []payload.Link{}, Refused: err.Error()}
	}
	reading := Reading{
		Summary: p.Summary(),
		Links:   linksOf(p),
		Event:   Event{Scope: string(p.Event.Scope), Action: string(p.Event.Action)},
		Repo:    Repo{Type: string(p.Repo.Type), Name: p.Repo.Name},
	}
	if err != nil {
		reading.Problem = err.Error()
	}
	return reading
}

// linksOf is never nil, as a list in JSON is never null.
func linksOf(p *payload.Payload) []payload.Link {
	if links := p.Links(); links != nil {
		return links
	}
	return []payload.Link{}
}

// tell adds to a delivery's view what happened, in words, and where that is on the Hub. A body that is no payload has nothing to tell.
func (r *Record) tell() {
	r.Links = []payload.Link{}
	if p, _ := payload.Parse([]byte(r.Body)); p != nil {
		r.Summary, r.Links = p.Summary(), linksOf(p)
	}
}
