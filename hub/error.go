package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/text"
)

// Causes that errors.Is finds in an Error.
var (
	// ErrNoToken: the call needs a token and none was found.
	ErrNoToken = errors.New("HF_TOKEN is not set, and no token is stored on this machine")
	// ErrNotFound: the Hub has no such thing, or does not show it to this token. The Hub answers 401 instead of 404 where nobody is
	// logged in, as its client library says.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the token is wrong, or was revoked.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden: the token lacks the right.
	ErrForbidden = errors.New("forbidden")
	// ErrSecretHidden: a webhook can't be updated, because the Hub does not show its secret and the update has none.
	ErrSecretHidden = errors.New("the Hub hides the webhook's secret")
)

// Error is a call that failed, in words for the person at the screen. No text of it contains the token or a secret that was sent.
type Error struct {
	// Op is what was tried: "list the webhooks".
	Op string
	// Method and Path are those of the request, without the endpoint.
	Method, Path string
	// Status is the HTTP status of the answer, 0 without an answer.
	Status int
	// Code is the Hub's own code, from the header X-Error-Code: "RepoNotFound", for example. It can be empty.
	Code string
	// Message is what the Hub said, in one line. It can be empty.
	Message string
	// RequestID is the Hub's id of the request. Its staff can find the request by it.
	RequestID string
	// TokenSource is where the token that was sent came from, "" if none was sent.
	TokenSource string
	// RetryAfter is how long the Hub asks to wait, 0 where it does not say.
	RetryAfter time.Duration
	// Err is the cause: an error of the connection, or one of this package's causes. It can be nil.
	Err error

	endpoint   string
	redirected string // the address to which the Hub redirected, "" for none
}

// Error returns what failed and why, in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	switch {
	case e.Status == 0 && e.Err != nil:
		b.WriteString(e.Err.Error())
	case e.Message != "":
		fmt.Fprintf(&b, "the Hub answered %d: %s", e.Status, e.Message)
	default:
		fmt.Fprintf(&b, "the Hub answered %s", strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))))
	}
	if e.Method == "" {
		return b.String()
	}
	fmt.Fprintf(&b, " (%s %s", e.Method, e.Path)
	if e.RequestID != "" {
		fmt.Fprintf(&b, ", request %s", e.RequestID)
	}
	b.WriteString(")")
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the cause in this package that the status stands for.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.notFound()
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized && !e.notFound()
	case ErrForbidden:
		return e.Status == http.StatusForbidden
	}
	return false
}

// notFound follows huggingface_hub's hf_raise_for_status.
func (e *Error) notFound() bool {
	switch e.Code {
	case "RepoNotFound", "RevisionNotFound", "EntryNotFound":
		return true
	}
	switch e.Status {
	case http.StatusNotFound, http.StatusGone:
		return true
	case http.StatusUnauthorized:
		// The Hub doesn't tell an unknown caller whether a repo exists. A wrong token is answered with this message.
		return e.TokenSource == "" && isRepoPath(e.Path) && e.Message != "Invalid credentials in Authorization header"
	}
	return false
}

func isRepoPath(path string) bool {
	for _, kind := range repoKinds {
		if strings.HasPrefix(path, "/api/"+kind+"/") {
			return true
		}
	}
	return false
}

// Hint returns what the user can do about the error, "" where there is nothing to do.
func (e *Error) Hint() string {
	settings := e.endpoint + "/settings/tokens"
	switch {
	case errors.Is(e.Err, ErrNoToken):
		return "set HF_TOKEN to a token from " + settings + ", or run hf auth login"
	case errors.Is(e.Err, ErrSecretHidden):
		return "give the secret again, for example in WEBHOOK_SECRET; without it the Hub may drop the one that it has"
	case e.redirected != "":
		return "is " + e.endpoint + " the Hub? It redirects to " + e.redirected + ", where the token is not sent; HF_ENDPOINT sets the address"
	case e.notFound() && isRepoPath(e.Path) && e.TokenSource == "":
		return "check its name and type; a private one needs a token that may read it, in HF_TOKEN"
	case e.notFound() && isRepoPath(e.Path):
		return "check its name and type, and that the token from " + e.TokenSource + " may read it"
	case e.notFound() && strings.HasPrefix(e.Path, webhooksPath+"/"):
		return "hubhook hub list shows the webhooks of this token's user"
	case e.notFound() && (strings.HasPrefix(e.Path, "/api/users/") || strings.HasPrefix(e.Path, "/api/organizations/")):
		return "check its name, and whether it is a user or an organization"
	case e.notFound():
		return "is " + e.endpoint + " the Hub? HF_ENDPOINT sets the address"
	case e.Status == http.StatusUnauthorized && e.TokenSource == "":
		return "set HF_TOKEN to a token from " + settings
	case e.Status == http.StatusUnauthorized:
		return "the token from " + e.TokenSource + " is wrong or was revoked; make another at " + settings
	case e.Status == http.StatusForbidden && strings.HasPrefix(e.Path, webhooksPath):
		return "give the token from " + e.TokenSource + " the right to read and write webhooks (user.webhooks.read, user.webhooks.write) at " + settings
	case e.Status == http.StatusForbidden:
		return "the token from " + e.TokenSource + " lacks the right; see " + settings
	case (e.Status == http.StatusTooManyRequests || errors.Is(e.Err, errUsedUp)) && e.RetryAfter > 0:
		hint := fmt.Sprintf("try again in %v", e.RetryAfter.Round(time.Second))
		if e.TokenSource == "" {
			hint += "; with a token, in HF_TOKEN, the Hub allows more"
		}
		return hint
	case e.Status == http.StatusNotImplemented && isRepoPath(e.Path): // the live feed of a bucket
		return "this Hub does not offer it"
	case e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented:
		return "is " + e.endpoint + " the Hub? HF_ENDPOINT sets the address"
	case e.Status == http.StatusTooManyRequests || e.Status >= 500:
		return "try again later; https://status.huggingface.co says whether the Hub has an outage"
	case errors.Is(e.Err, errNotJSON):
		return "is " + e.endpoint + " the Hub? A proxy or a sign-in page may answer in its place; HF_ENDPOINT sets the address"
	case errors.Is(e.Err, context.Canceled): // the caller ended the call, so there is nothing to do
		return ""
	case e.Status == 0 && e.Err != nil && e.Method != "":
		return "check the connection to " + e.endpoint + "; HF_ENDPOINT sets another address"
	}
	return ""
}

// errNotJSON says that an answer is not of the Hub's API.
var errNotJSON = errors.New("not JSON")

// maxMessage bounds what an Error repeats of the Hub's words, in bytes.
const maxMessage = 1000

// readError makes an Error of an answer that is no success. hide removes secrets from what the Hub says.
func readError(e *Error, header http.Header, body []byte, hide *text.Redactor) *Error {
	line := func(s string) string { return text.OneLine(hide.Redact(s), maxMessage) }
	e.Code = line(header.Get("X-Error-Code"))
	e.RequestID = requestID(header, line)
	var messages []string
	for _, message := range append([]string{header.Get("X-Error-Message")}, bodyMessages(header.Get("Content-Type"), body)...) {
		if message = line(message); message != "" && !slices.Contains(messages, message) {
			messages = append(messages, message)
		}
	}
	e.Message = text.OneLine(strings.Join(messages, "; "), maxMessage)
	return e
}

func requestID(header http.Header, line func(string) string) string {
	for _, name := range []string{"X-Request-Id", "X-Amzn-Trace-Id", "X-Amz-Cf-Id"} {
		if id := line(header.Get(name)); id != "" {
			return id
		}
	}
	return ""
}

// bodyMessages returns what the body of an answer says went wrong. The Hub has several shapes: {"error": "..."}, {"error": ["..."]},
// {"error": ..., "error_description": "..."} and {"errors": [{"message": "..."}]}, as huggingface_hub's _format reads them. A page of HTML
// says nothing, other text stands for itself.
func bodyMessages(contentType string, body []byte) (messages []string) {
	body = bytes.TrimSpace(body)
	var object struct {
		Error       json.RawMessage   `json:"error"`
		Description json.RawMessage   `json:"error_description"`
		Message     json.RawMessage   `json:"message"`
		Errors      []json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(body, &object); err != nil {
		var wrongType *json.UnmarshalTypeError
		if !errors.As(err, &wrongType) {
			if media, _, _ := mime.ParseMediaType(contentType); media == "text/html" || bytes.HasPrefix(body, []byte("<")) {
				return nil
			}
			return []string{string(body)}
		}
	}
	for _, value := range append([]json.RawMessage{object.Error, object.Description, object.Message}, object.Errors...) {
		messages = append(messages, words(value)...)
	}
	return messages
}

// words returns the texts in a value: a string, a list of values, or an object with a message.
func words(value json.RawMessage) []string {
	switch {
	case len(value) == 0:
		return nil
	case value[0] == '"':
		var s string
		if json.Unmarshal(value, &s) == nil {
			return []string{s}
		}
	case value[0] == '[':
		var list []json.RawMessage
		var all []string
		if json.Unmarshal(value, &list) == nil {
			for _, inner := range list {
				if len(inner) > 0 && inner[0] != '[' { // a list in a list is no message, and deep nesting could use up the stack
					all = append(all, words(inner)...)
				}
			}
		}
		return all
	case value[0] == '{':
		var object struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(value, &object) == nil && object.Message != "" {
			return []string{object.Message}
		}
	}
	return nil
}
