package hub

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/hubhook/hubhook/internal/text"
)

// bodies adds the examples of the API's bodies as seeds.
func bodies(f *testing.F) {
	files, err := filepath.Glob("testdata/api/*.json")
	if err != nil || len(files) < 15 {
		f.Fatalf("there are %d bodies, %v", len(files), err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(body))
	}
}

func FuzzError(f *testing.F) {
	bodies(f)
	f.Add("<html>")
	f.Add(`{"error": [["deep"], {"message": 7}, null], "errors": [[]], "error_description": {}}`)
	f.Add(`{"error": "my s3cret-token \u0000"}`)
	const token = "s3cret-token"
	f.Fuzz(func(t *testing.T, body string) {
		header := http.Header{"X-Error-Message": {body}, "Content-Type": {"application/json"}}
		e := readError(&Error{Op: "try", Status: 400, Err: nil}, header, []byte(body), text.NewRedactor(hidden, token))
		all := e.Error() + e.Hint()
		if strings.Contains(all, token) || strings.ContainsAny(all, "\n\r\x1b") || len(e.Message) > 5*maxMessage {
			t.Errorf("%q is told as %q", body, all)
		}
	})
}

func FuzzLink(f *testing.F) {
	for _, link := range []string{
		`<https://huggingface.co/api/models/me/m/tree/main?cursor=x>; rel="next"`, `</a>; rel=prev, </b>; title="a, <c>"; rel="last next"`, `<>; rel=next`, `<`, `"\"`,
	} {
		f.Add(link, "")
	}
	f.Add("no link", `</next>; REL=NEXT`)
	f.Fuzz(func(t *testing.T, first, second string) {
		target := nextLink([]string{first, second})
		if target != "" && !strings.Contains(first, "<"+target+">") && !strings.Contains(second, "<"+target+">") {
			t.Errorf("%q and %q lead to %q", first, second, target)
		}
	})
}

func FuzzEvents(f *testing.F) {
	for _, stream := range []string{
		": ping\n\nevent: ready\ndata: {\"cursor\": \"c\"}\n\n", "\ufeffdata: a\r\ndata:b\r\rid: 7\nevent: x\n\n", "event: changes\ndata", "data\n\n", "\n\n\r\n",
		"event: changes\ndata: {\"cursor\": \"c\", \"changes\": [{\"path\": \"a\", \"op\": \"add\"}]}\n\n",
	} {
		f.Add(stream)
	}
	read := func(r *eventReader) (events []string) {
		for {
			m, err := r.next()
			if err != nil {
				return events
			}
			var fields map[string]json.RawMessage
			tolerant(m.data, &fields)
			readChanges(fields["changes"])
			events = append(events, m.name+": "+string(m.data))
		}
	}
	f.Fuzz(func(t *testing.T, stream string) {
		whole := read(newEventReader(strings.NewReader(stream)))
		if pieces := read(newEventReader(iotest.OneByteReader(strings.NewReader(stream)))); !reflect.DeepEqual(whole, pieces) {
			t.Errorf("%q is %q, byte by byte %q", stream, whole, pieces)
		}
	})
}

func FuzzWebhook(f *testing.F) {
	bodies(f)
	f.Add(`{"webhook": {"id": "1", "url": "https://e.com?secret=a", "watched": [7, {"name": "x"}], "domains": null, "disabled": "suspended", "secret": "s", "x": {}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		raw := []byte(body)
		if wrapped := field(raw, "webhook"); wrapped != nil {
			raw = wrapped
		}
		var w Webhook
		if json.Unmarshal(raw, &w) != nil {
			return
		}
		printed, err := json.Marshal(w)
		if err != nil {
			t.Fatalf("%q was read but can't be written: %v", body, err)
		}
		var again Webhook
		if err := json.Unmarshal(printed, &again); err != nil {
			t.Fatalf("%q is written as %s: %v", body, printed, err)
		}
		if again.ID != w.ID || again.State != w.State || again.HasSecret != w.HasSecret || again.Secret != "" || len(again.Watched) != len(w.Watched) {
			t.Errorf("%q is read as %+v and, once written, as %+v", body, w, again)
		}
	})
}

func FuzzRepo(f *testing.F) {
	f.Add(`{"_id": "1", "id": "me/m", "sha": "abc", "private": true, "lastModified": "2026-11-27T10:00:00Z", "updatedAt": "2026-11-27T10:00:00Z", "path": "a"}`)
	f.Add(`{"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": "1"}], "tags": {}, "converts": [7]}`)
	f.Add(`{"name": "me", "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": [{"entity": {"type": "user"}, "permissions": ["a"]}, 7]}}}}`)
	f.Add(`{"id": "1", "authors": [{"user": "me"}, 7], "date": 7, "title": null}`)
	f.Add(`{"num": 3, "title": "t", "author": {"name": "me"}, "changes": {"mergeCommitId": 1}, "events": [{"type": "comment", "id": "1", "data": {"hidden": 7, "latest": {"raw": "x"}}}, {"type": []}, null]}`)
	f.Add(`{"id": "1", "owner": {"name": "me"}, "status": {"stage": 7}, "labels": {"a": 1}}`)
	f.Fuzz(func(t *testing.T, body string) {
		raw := []byte(body)
		var c Commit
		if json.Unmarshal(raw, &c) == nil && c.ID == "" {
			t.Error("a commit without an id")
		}
		var file BucketFile
		if json.Unmarshal(raw, &file) == nil && file.Path == "" {
			t.Error("a file without a path")
		}
		json.Unmarshal(raw, new(Repo))
		json.Unmarshal(raw, new(Bucket))
		json.Unmarshal(raw, new(User))
		json.Unmarshal(raw, new(Discussion))
		json.Unmarshal(raw, new(StartedJob))
		var kinds map[string]json.RawMessage
		if json.Unmarshal(raw, &kinds) == nil {
			for _, ref := range readRefs(kinds) {
				if ref.Ref == "" || ref.Commit == "" {
					t.Errorf("a ref without name or commit: %+v", ref)
				}
			}
		}
	})
}
