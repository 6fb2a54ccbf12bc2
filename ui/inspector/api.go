package inspector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gorilla/mux"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
)

const (
	maxBody    = 16<<20 + 64<<10 // of a payload of the default limit with the JSON around it, in bytes
	maxTrigger = 1 << 20         // of the other requests, in bytes

	discardReason = "discarded by hand"
)

func (in *Inspector) list(w http.ResponseWriter, r *http.Request) {
	filter, err := parseFilter(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	deliveries, next, err := in.config.Queue.List(r.Context(), filter)
	if errors.Is(err, queue.ErrCursor) {
		writeError(w, http.StatusBadRequest, "before: "+err.Error())
		return
	}
	if err != nil {
		fail(w, "listing deliveries", err)
		return
	}
	page := api.List{Deliveries: make([]api.Delivery, len(deliveries))}
	for i := range deliveries {
		page.Deliveries[i] = ViewDelivery(&deliveries[i])
	}
	if next != "" {
		page.Next = &next
	}
	writeJSON(w, http.StatusOK, page)
}

func (in *Inspector) get(w http.ResponseWriter, r *http.Request) {
	id := mux.Vars(r)["id"]
	record, err := in.config.Queue.Get(r.Context(), id)
	if err != nil {
		fail(w, fmt.Sprintf("reading delivery %q", id), err)
		return
	}
	view := viewRecord(record)
	in.showRunning(&view, record.AttemptList)
	writeJSON(w, http.StatusOK, view)
}

func (in *Inspector) replay(w http.ResponseWriter, r *http.Request) {
	id := mux.Vars(r)["id"]
	body, err := decodePayload(w, r)
	if err != nil {
		fail(w, fmt.Sprintf("replaying delivery %q", id), err)
		return
	}
	if body != nil {
		if p, err := payload.Parse(body); p == nil {
			writeError(w, http.StatusUnprocessableEntity, "text: "+err.Error())
			return
		}
	}
	newID, err := in.config.Replay(r.Context(), id, body)
	if err != nil {
		failUnstored(w, fmt.Sprintf("replaying delivery %q", id), err)
		return
	}
	writeJSON(w, http.StatusAccepted, api.Answer{Delivery: newID})
}

func (in *Inspector) discard(w http.ResponseWriter, r *http.Request) {
	id := mux.Vars(r)["id"]
	err := decode(w, r, maxTrigger, &struct{}{})
	if err != nil {
		fail(w, fmt.Sprintf("discarding delivery %q", id), err)
		return
	}
	if err := in.config.Queue.Discard(r.Context(), id, discardReason); err != nil {
		failUnstored(w, fmt.Sprintf("discarding delivery %q", id), err)
		return
	}
	writeJSON(w, http.StatusOK, api.Answer{Delivery: id, State: string(queue.Discarded)})
}

func (in *Inspector) trigger(w http.ResponseWriter, r *http.Request) {
	var t api.Trigger
	if err := decode(w, r, maxTrigger, &t); err != nil {
		fail(w, "triggering a sample event", err)
		return
	}
	if t.Scope == "" && t.From == "" {
		writeError(w, http.StatusUnprocessableEntity, `scope is missing; give one, such as "repo.content", or the ID of a delivery in "from"`)
		return
	}
	id, err := in.config.Trigger(r.Context(), t)
	if err != nil {
		fail(w, "triggering a sample event", err)
		return
	}
	writeJSON(w, http.StatusAccepted, api.Answer{Delivery: id})
}

func (in *Inspector) status(w http.ResponseWriter, r *http.Request) {
	status, err := in.config.Status(r.Context())
	if err != nil {
		fail(w, "reading the status", err)
		return
	}
	counts, err := in.config.Queue.Counts(r.Context())
	if err != nil {
		fail(w, "counting deliveries", err)
		return
	}
	count(&status, counts)
	if status.Endpoints == nil {
		status.Endpoints = []api.Endpoint{}
	}
	writeJSON(w, http.StatusOK, status)
}

// decode reads r's body of at most limit bytes as one JSON object into v, strictly. An empty body counts as {}.
func decode(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(limit)
	}
	if err != nil {
		return &Refusal{http.StatusBadRequest, fmt.Errorf("the request body ended early: %w", err)}
	}
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil
	}
	err = jsonv2.Unmarshal(body, v, jsonv2.RejectUnknownMembers(true))
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return &Refusal{http.StatusBadRequest, fmt.Errorf("the request body is not JSON: %w at byte %d", syntactic.Err, syntactic.ByteOffset)}
	}
	if semantic, ok := errors.AsType[*jsonv2.SemanticError](err); ok {
		return &Refusal{http.StatusUnprocessableEntity, misfit(semantic)}
	}
	if err != nil {
		return &Refusal{http.StatusBadRequest, fmt.Errorf("the request body is not JSON: %w", err)}
	}
	return nil
}

// misfit says in the caller's terms why a JSON value has the wrong type.
func misfit(e *jsonv2.SemanticError) error {
	var path []string
	for token := range e.JSONPointer.Tokens() {
		path = append(path, token)
	}
	where := strings.Join(path, ".")
	if e.Err == jsonv2.ErrUnknownName {
		return fmt.Errorf("unknown field %q", where)
	}
	want := "another value"
	if e.GoType != nil {
		switch e.GoType.Kind().String() {
		case "struct", "map":
			want = "an object"
		case "string":
			want = "a string"
		}
	}
	if where == "" {
		where = "the request body"
	}
	return fmt.Errorf("%s: want %s, have %s", where, want, kindName(e.JSONKind))
}

func kindName(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "something else"
}

func tooLarge(limit int64) error {
	return &Refusal{http.StatusRequestEntityTooLarge, fmt.Errorf("the request body has more than %d bytes", limit)}
}

// fail answers with the status and text of err. It sends an unexpected error in full: the caller has the token, so may know it.
func fail(w http.ResponseWriter, act string, err error) {
	failWith(w, http.StatusInternalServerError, act, err)
}

// failUnstored is fail for requests that had to store something. An unexpected error is 503, because it may pass: a full disk gets room again.
func failUnstored(w http.ResponseWriter, act string, err error) {
	failWith(w, http.StatusServiceUnavailable, act, err)
}

// failWith answers with status, unless the error has a status of its own.
func failWith(w http.ResponseWriter, status int, act string, err error) {
	if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Status >= 400 && refusal.Status < 500 {
		writeError(w, refusal.Status, err.Error())
		return
	}
	switch {
	case errors.Is(err, queue.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, queue.ErrFinished):
		status = http.StatusConflict
	case errors.Is(err, queue.ErrFull), errors.Is(err, queue.ErrStopping), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	writeError(w, status, act+": "+err.Error())
}

// writeJSON sends v. It encodes v before it writes anything, so that the answer is complete or an error.
func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		data, _ = json.Marshal(map[string]string{"error": "encoding the answer: " + err.Error()}) // strings always encode
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(append(data, '\n')) // if this fails, the client has gone away
}

func writeError(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, api.Error{Error: text})
}
