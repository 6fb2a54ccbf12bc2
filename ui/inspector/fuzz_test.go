package inspector

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/hubhook/hubhook/internal/api"
)

// FuzzFilter reads anything as the query of a list. A filter that comes of it means the same when it is written as a query again.
func FuzzFilter(f *testing.F) {
	for _, query := range []string{
		"endpoint=train&state=dead&scope=repo&action=update&repo=dataset:me/data&q=x&since=2h&replayed=false&before=1&limit=1000", "limit=0", "limit=1e3", "state=", "since=-1h", "since=9999-12-31T23:59:59.999999999-23:59",
		"since=2540400h10m10.000000000s", "a=b", "state=dead&state=done", "%zz=1&;&=&a", "q=%00%FF%E2%80%AE",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := http.Request{URL: &url.URL{RawQuery: query}}
		have, err := parseFilter(r.URL.Query())
		if err != nil {
			return
		}
		again, err := parseFilter(values(have))
		if err != nil || !again.Since.Equal(have.Since) {
			t.Fatalf("%q is read as %+v and then as %+v (%v)", query, have, again, err)
		}
		if again.Since = have.Since; again != have {
			t.Errorf("%q is read as %+v and then as %+v", query, have, again)
		}
	})
}

// FuzzRequest reads anything as the body of a request to the API. What is wrong with it is the caller's fault, and is said in one line of JSON.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		`{"scope": "repo.content", "action": "update", "set": {"repo.name": "me/data", "a": [1e400, null, {"b": {}}]}, "from": "1", "endpoint": "x"}`,
		`{"body": {"a": 1}}`, `{"text": "{\"a\": 1}"}`, `{"body": {}, "text": ""}`, `{"body": []}`, `{"scope": 7}`, `{"scope": "a", "scope": "b"}`, `{"\u0073cope": "a"}`, "{\"a\xff\": 1}",
		strings.Repeat("[", 10_001), `{"set":` + strings.Repeat(`{"a":`, 10_001), "\ufeff{}", "{} {}", "", " ",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		request := func() (http.ResponseWriter, *http.Request) {
			return httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/api/trigger", strings.NewReader(body))
		}
		var trigger api.Trigger
		w, r := request()
		_, err := decodePayload(request())
		for _, err := range []error{decode(w, r, maxTrigger, &trigger), err} {
			var refusal *Refusal
			if err != nil && (!errors.As(err, &refusal) || refusal.Status < 400 || refusal.Status > 499) {
				t.Errorf("%q: %#v", body, err)
			}
			if err != nil {
				answer := httptest.NewRecorder()
				fail(answer, "trying", err)
				var said api.Error
				if json.Unmarshal(answer.Body.Bytes(), &said) != nil || said.Error == "" || bytes.Count(answer.Body.Bytes(), []byte("\n")) != 1 {
					t.Errorf("%q is answered %q", body, answer.Body)
				}
			}
		}
	})
}

// answering is a transport that answers every request with the same stream, byte by byte where it is slow.
type answering struct {
	stream string
	slow   bool
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	var body io.Reader = strings.NewReader(a.stream)
	if a.slow {
		body = iotest.OneByteReader(body)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(body), Request: r}, nil
}

// FuzzStream reads anything as the inspector's stream. In whichever pieces it comes, the events are the same.
func FuzzStream(f *testing.F) {
	for _, stream := range []string{
		": ping\n\nid: 7\nevent: delivery\ndata: {\"id\": \"1\"}\n\n", "event: output\r\ndata:a\r\n\r\n", "id: x\n\n", "data\n\nevent\n\n", "event: a\ndata: b", "id: 99999999999999999999\n\n", "\n\n\x00:\n",
	} {
		f.Add(stream)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		read := func(slow bool) (events []string, failed string) {
			c := NewClient("http://127.0.0.1:1", "")
			c.http = &http.Client{Transport: answering{stream, slow}}
			err := c.Stream(t.Context(), func(e StreamEvent) {
				events = append(events, e.Name+" "+string(e.Data))
			})
			if err == nil {
				t.Errorf("%q: the end of a stream is no error", stream)
				return events, ""
			}
			return events, err.Error()
		}
		whole, failed := read(false)
		pieces, alsoFailed := read(true)
		if strings.Join(whole, "\n") != strings.Join(pieces, "\n") || failed != alsoFailed {
			t.Errorf("%q is %q (%s), byte by byte %q (%s)", stream, whole, failed, pieces, alsoFailed)
		}
	})
}
