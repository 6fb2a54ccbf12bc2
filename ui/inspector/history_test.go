package inspector

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/api"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// get reads a page of the API into v.
func (f *fixture) get(path string, v any) (body string) {
	f.t.Helper()
	response, body := f.request("GET", path, "")
	if response.StatusCode != 200 {
		f.t.Fatalf("GET %s: status %d: %s", path, response.StatusCode, body)
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		f.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
	return body
}

func TestRejected(t *testing.T) {
	f := newFixture(t)
	var list api.RejectedList
	if body := f.get("/api/rejected", &list); body != `{"rejected":[],"total":0}`+"\n" {
		t.Errorf("before anything was refused: %s", body)
	}

	wrong := api.Rejected{Time: api.Time{Time: noon}, Endpoint: "inbox", Status: 403, Reason: "wrong_secret", Error: "the secret is wrong", Fix: "make it right", UserAgent: "curl/8"}
	next, end := f.follow(func() { f.inspector.Rejected(wrong) })
	defer end()
	first := `{"time":"2026-11-23T12:00:00.000Z","endpoint":"inbox","status":403,"reason":"wrong_secret","error":"the secret is wrong","fix":"make it right","user_agent":"curl/8","times":1}`
	if e := next("rejected"); string(e.Data) != first {
		t.Errorf("the stream says %s, want %s", e.Data, first)
	}
	if body := f.get("/api/rejected", &list); body != `{"rejected":[`+first+`],"total":1}`+"\n" {
		t.Errorf("the list is %s", body)
	}

	again := wrong
	again.Time = api.Time{Time: noon.Add(time.Minute)}
	f.inspector.Rejected(again)
	folded := strings.Replace(strings.Replace(first, `"times":1`, `"times":2`, 1), "12:00:00", "12:01:00", 1)
	if e := next("rejected"); string(e.Data) != folded {
		t.Errorf("the stream says %s of the second one, want %s", e.Data, folded)
	}
	if body := f.get("/api/rejected", &list); body != `{"rejected":[`+folded+`],"total":2}`+"\n" {
		t.Errorf("after a second one like it: %s", body)
	}

	// A request that differs in any field is an entry of its own. So is one that equals an older entry but not the newest.
	others := []func(*api.Rejected){
		func(r *api.Rejected) { r.Endpoint = "other" },
		func(r *api.Rejected) { r.Status = 401 },
		func(r *api.Rejected) { r.Reason = "no_secret" },
		func(r *api.Rejected) { r.Error = "no secret was sent" },
		func(r *api.Rejected) { r.Fix = "paste it" },
		func(r *api.Rejected) { r.UserAgent = "curl/9" },
	}
	for _, change := range others {
		other := wrong
		change(&other)
		f.inspector.Rejected(other)
	}
	f.inspector.Rejected(wrong)
	f.get("/api/rejected", &list)
	if len(list.Rejected) != len(others)+2 || list.Total != int64(len(others)+3) || list.Rejected[0].Times != 1 || list.Rejected[1].UserAgent != "curl/9" {
		t.Errorf("%d entries, %d in all: %+v", len(list.Rejected), list.Total, list.Rejected)
	}
}

func TestHistoriesAreBounded(t *testing.T) {
	f := newFixture(t)
	const more = 1000
	for i := range more {
		f.inspector.Rejected(api.Rejected{Endpoint: fmt.Sprint(i)})
		f.inspector.Tunnel(api.TunnelChange{URL: fmt.Sprint(i)})
	}
	var list api.RejectedList
	f.get("/api/rejected", &list)
	if n := len(list.Rejected); n != maxRejected || list.Total != more || list.Rejected[0].Endpoint != "999" || list.Rejected[n-1].Endpoint != "800" {
		t.Errorf("of %d refusals %d are kept, %d counted, from %+v to %+v", more, n, list.Total, list.Rejected[0], list.Rejected[n-1])
	}
	var changes api.TunnelChanges
	f.get("/api/tunnel", &changes)
	if n := len(changes.Changes); n != maxTunnelChanges || changes.Changes[0].URL != "999" || changes.Changes[n-1].URL != "900" {
		t.Errorf("of %d changes %d are kept, from %+v to %+v", more, n, changes.Changes[0], changes.Changes[n-1])
	}
}

// The last event of a stream is the first entry of the list, however many requests are refused at once.
func TestRefusalsAtOnce(t *testing.T) {
	f := newFixture(t)
	const each = 100
	next, end := f.follow(func() {
		var refusing sync.WaitGroup
		for i := range 4 {
			refusing.Go(func() {
				for range each {
					f.inspector.Rejected(api.Rejected{Endpoint: fmt.Sprint(i)})
				}
			})
		}
		refusing.Wait()
	})
	defer end()
	var last api.Rejected
	for range 4 * each {
		if err := json.Unmarshal(next("rejected").Data, &last); err != nil {
			t.Fatal(err)
		}
	}
	var list api.RejectedList
	f.get("/api/rejected", &list)
	if list.Total != 4*each || list.Rejected[0] != last {
		t.Errorf("%d counted, the list begins with %+v, the stream ended with %+v", list.Total, list.Rejected[0], last)
	}
}

func TestTunnelChanges(t *testing.T) {
	f := newFixture(t)
	var list api.TunnelChanges
	if body := f.get("/api/tunnel", &list); body != `{"changes":[]}`+"\n" {
		t.Errorf("without a tunnel: %s", body)
	}
	next, end := f.follow(func() {
		f.inspector.Tunnel(api.TunnelChange{Time: api.Time{Time: noon}, Provider: "ngrok", Phase: "reconnecting", Error: "EOF", Hint: "wait"})
	})
	defer end()
	lost := `{"time":"2026-11-23T12:00:00.000Z","provider":"ngrok","phase":"reconnecting","url":"","error":"EOF","hint":"wait"}`
	if e := next("tunnel"); string(e.Data) != lost {
		t.Errorf("the stream says %s, want %s", e.Data, lost)
	}
	f.inspector.Tunnel(api.TunnelChange{Time: api.Time{Time: noon.Add(time.Second)}, Provider: "ngrok", Phase: "url changed", URL: "https://b.example",
		Endpoints: []api.Endpoint{{Name: "inbox", URL: "https://b.example/webhooks/inbox"}}})
	back := `{"time":"2026-11-23T12:00:01.000Z","provider":"ngrok","phase":"url changed","url":"https://b.example","error":"","hint":"","endpoints":[{"name":"inbox","url":"https://b.example/webhooks/inbox"}]}`
	if e := next("tunnel"); string(e.Data) != back {
		t.Errorf("the stream says %s, want %s", e.Data, back)
	}
	if body := f.get("/api/tunnel", &list); body != `{"changes":[`+back+`,`+lost+`]}`+"\n" {
		t.Errorf("the list is %s", body)
	}
}
