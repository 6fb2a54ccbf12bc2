package inspector

import (
	"errors"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
)

// readPayload reads a payload as an endpoint does, and stores nothing.
func (in *Inspector) readPayload(w http.ResponseWriter, r *http.Request) {
	body, err := decodePayload(w, r)
	if err != nil {
		fail(w, "reading a payload", err)
		return
	}
	if body == nil {
		writeError(w, http.StatusUnprocessableEntity, `body is missing; give the payload in it, {"body": {...}}, or as {"text": "..."}`)
		return
	}
	writeJSON(w, http.StatusOK, read(body))
}

// decodePayload reads the payload of a request: an object in body, or a text, which need not be an object. Nil: neither was given.
func decodePayload(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var request struct {
		Body jsontext.Value `json:"body"`
		Text *string        `json:"text"` // endpoints accept JSON that strict readers refuse, such as a name that comes twice
	}
	if err := decode(w, r, 2*maxBody, &request); err != nil { // quotes and line ends of a text take two bytes each
		return nil, err
	}
	body := []byte(request.Body)
	switch {
	case request.Text != nil && body != nil:
		return nil, &Refusal{http.StatusUnprocessableEntity, errors.New("give the payload as body or as text, not both")}
	case request.Text != nil:
		body = []byte(*request.Text)
	case body != nil && request.Body.Kind() != '{':
		return nil, &Refusal{http.StatusUnprocessableEntity, errors.New("body: want an object, have " + kindName(request.Body.Kind()))}
	}
	if len(body) > maxBody {
		return nil, tooLarge(maxBody)
	}
	return body, nil
}

// read says how an endpoint would read a body.
func read(body []byte) api.Reading {
	p, err := payload.Parse(body)
	if p == nil {
		return api.Reading{Links: []payload.Link{}, Refused: err.Error()}
	}
	reading := api.Reading{
		Summary: p.Summary(),
		Links:   linksOf(p),
		Event:   api.Event{Scope: string(p.Event.Scope), Action: string(p.Event.Action)},
		Repo:    api.Repo{Type: string(p.Repo.Type), Name: p.Repo.Name},
	}
	if err != nil {
		reading.Problem = err.Error()
	}
	return reading
}

// linksOf never returns nil, because a list in the API's JSON is never null.
func linksOf(p *payload.Payload) []payload.Link {
	if links := p.Links(); links != nil {
		return links
	}
	return []payload.Link{}
}
