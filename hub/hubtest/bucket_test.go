package hubtest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func upload(t *testing.T, b *hubtest.Bucket, path, content string) {
	t.Helper()
	check(t, b.Upload(hubtest.File{Path: path, Content: []byte(content)}))
}

func TestBucketAPI(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s, c := newServer(t, hubtest.Options{Now: clock.Now})
	made := ok[object](c, "POST", "/api/buckets/me/data", object{"visibility": "private"})
	if made["url"] != s.URL+"/buckets/me/data" {
		t.Errorf("created: %v", made)
	}
	c.refused(409, "POST", "/api/buckets/me/data", object{})
	c.refused(403, "POST", "/api/buckets/you/data", object{})
	b := s.Bucket("me/data")
	client{t, c.url, ""}.refused(404, "GET", "/api/buckets/me/data", nil)
	ok[object](c, "PUT", "/api/buckets/me/data/settings", object{"private": false})
	client{t, c.url, ""}.refused(401, "PUT", "/api/buckets/me/data/settings", object{"private": false})

	clock.pass(time.Minute)
	check(t, b.Upload(hubtest.File{Path: "a/x", Content: []byte("12345")}, hubtest.File{Path: "a-b"}, hubtest.File{Path: "a/deep/er"},
		hubtest.File{Path: "b", Content: []byte("1")}, hubtest.File{Path: "a/gone"}))
	check(t, b.Remove("a/gone"))
	want := object{"_id": b.ID(), "id": "me/data", "author": "me", "private": false, "createdAt": "2026-11-27T09:00:00.000Z",
		"updatedAt": "2026-11-27T09:01:00.000Z", "size": 6.0, "totalFiles": 4.0}
	if diff := cmp.Diff(want, ok[object](client{t, c.url, ""}, "GET", "/api/buckets/me/data", nil)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]object{want}, ok[[]object](c, "GET", "/api/buckets/me?search=dat", nil)); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string][]string{
		"?recursive=true":          {"file a-b", "file a/deep/er", "file a/x", "file b"},
		"":                         {"file a-b", "directory a", "file b"},
		"/a?recursive=true":        {"file a-b", "file a/deep/er", "file a/x"},
		"/a%2F":                    {"directory a/deep", "file a/x"},
		"/a/?recursive=True":       {"file a/deep/er", "file a/x"},
		"/none":                    nil,
		"/a%2Fdeep?recursive=true": {"file a/deep/er"},
	} {
		sign := "?"
		if strings.Contains(path, "?") {
			sign = "&"
		}
		for limit := 1; limit <= 4; limit++ {
			items, count := pages[object](c, fmt.Sprintf("/api/buckets/me/data/tree%s%slimit=%d", path, sign, limit))
			var got []string
			for _, i := range items {
				got = append(got, fmt.Sprint(i["type"], " ", i["path"]))
			}
			if !cmp.Equal(got, want) || count != max(1, (len(want)+limit-1)/limit) {
				t.Errorf("tree%s by %d: %d pages of %q; want %q", path, limit, count, got, want)
			}
		}
	}
	info := ok[[]object](c, "POST", "/api/buckets/me/data/paths-info", object{"paths": []string{"a/x", "none"}})
	if len(info) != 1 || info[0]["path"] != "a/x" || info[0]["size"] != 5.0 || info[0]["xetHash"] != b.Files()[2].XetHash ||
		info[0]["uploadedAt"] != "2026-11-27T09:01:00.000Z" {
		t.Errorf("paths-info: %v", info)
	}
	ok[object](c, "POST", "/api/repos/move", object{"fromRepo": "me/data", "toRepo": "me/moved", "type": "bucket"})
	if items, _ := pages[object](c, "/api/buckets/me/data/tree/a%2Fdeep?recursive=true"); len(items) != 1 {
		t.Errorf("at the old name: %v", items)
	}
	ok[object](c, "DELETE", "/api/buckets/me/moved", nil)
	c.refused(404, "GET", "/api/buckets/me/data", nil)
	if err := b.Remove("b"); err == nil {
		t.Error("a deleted bucket was changed")
	}
}

// A payload lists 10,000 files at most; a deletion has neither a hash nor a size.
func TestBucketDeliveries(t *testing.T) {
	t.Parallel()
	h := watching(t, hubtest.Options{}, hubtest.Watched{Type: "bucket", Name: "me/data"})
	b := must(h.CreateBucket("me/data", hubtest.RepoOptions{}))
	files := make([]hubtest.File, 10_000)
	for n := range files {
		files[n].Path = fmt.Sprint(n)
	}
	check(t, b.Upload(files...))
	check(t, b.Change(files, []string{"7"}))
	check(t, b.SetPrivate(true))
	check(t, b.Move("me/new"))
	check(t, b.Delete())
	id := h.Webhooks()[0].ID
	if diff := cmp.Diff([]string{"repo create me/data", "repo.content update me/data", "repo.content update me/data",
		"repo.config update me/data", "repo move me/data"}, eventsOf(t, h, id)); diff != "" {
		t.Error(diff)
	}
	all := h.Deliveries()
	for n, cut := range map[int]bool{1: false, 2: true} {
		p := must(payload.Parse(all[n].Body))
		if len(p.UpdatedFiles) != 10_000 || p.UpdatedFilesTruncated != cut {
			t.Errorf("delivery %d: %d files, truncated: %v", n, len(p.UpdatedFiles), p.UpdatedFilesTruncated)
		}
	}
	if body := string(all[2].Body); !strings.Contains(body, `"updatedFiles":[{"path":"7","action":"delete"},{"path":"0","action":"add","xetHash":"`) ||
		!strings.Contains(body, `","size":0}`) || strings.Contains(body, "headSha") {
		t.Errorf("%.300s", body)
	}
}

// events is a stream of server-sent events. Each is one string: name and data, or a comment.
type events struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
	stop context.CancelFunc
}

func follow(c client, query string) *events {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute) // so that a test that fails ends
	req, err := http.NewRequestWithContext(ctx, "GET", c.url+"/api/buckets/me/data/events"+query, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	e := &events{c.t, resp, bufio.NewReader(resp.Body), cancel}
	c.t.Cleanup(e.close)
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		c.t.Fatalf("events%s: %s, %s", query, resp.Status, resp.Header.Get("Content-Type"))
	}
	return e
}

func (e *events) close() {
	e.stop()
	e.resp.Body.Close()
}

// next returns the next event's lines, joined by spaces; at the stream's end it returns "EOF" or "cut".
func (e *events) next() string {
	e.t.Helper()
	var lines []string
	for {
		line, err := e.in.ReadString('\n')
		switch line = strings.TrimSuffix(line, "\n"); {
		case err == io.EOF:
			return "EOF"
		case err != nil && e.t.Context().Err() == nil:
			return "cut"
		case err != nil:
			e.t.Fatal(err)
		case line == "":
			return strings.Join(lines, " ")
		}
		lines = append(lines, line)
	}
}

// changes returns the next event, which has to be changes, as words such as add:PATH, and its cursor.
func (e *events) changes() (words []string, cursor string) {
	e.t.Helper()
	text := e.next()
	data, is := strings.CutPrefix(text, "event: changes data: ")
	if !is {
		e.t.Fatalf("got %q; want changes", text)
	}
	got := decoded[struct {
		Cursor  string
		Changes []struct{ Op, Path string }
	}](e.t, data)
	for _, c := range got.Changes {
		words = append(words, c.Op+":"+c.Path)
	}
	return words, got.Cursor
}

func (e *events) want(texts ...string) {
	e.t.Helper()
	for _, want := range texts {
		if got := e.next(); got != want {
			e.t.Fatalf("got %q; want %q", got, want)
		}
	}
}

func (e *events) wantChanges(want ...string) (cursor string) {
	e.t.Helper()
	got, cursor := e.changes()
	if diff := cmp.Diff(want, got); diff != "" {
		e.t.Fatal(diff)
	}
	return cursor
}

func ready(cursor string) string { return `event: ready data: {"cursor":"` + cursor + `"}` }

const tooOld = `event: reset data: {"reason":"cursor_too_old"}`

func TestFeed(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s, c := newServer(t, hubtest.Options{Now: clock.Now})
	b := must(s.CreateBucket("me/data", hubtest.RepoOptions{}))
	live := follow(c, "")
	live.want("event: ready data: {}")
	upload(t, b, "a", "1")
	first := live.wantChanges("add:a")
	clock.pass(time.Second)
	check(t, b.Change([]hubtest.File{{Path: "a", Content: []byte("2")}, {Path: "b"}}, nil))
	second := live.wantChanges("update:a", "add:b")
	clock.pass(time.Second)
	check(t, b.Change([]hubtest.File{{Path: "b", Content: []byte("3")}}, []string{"a"}))
	third := live.wantChanges("delete:a", "update:b")

	// A cursor resumes strictly after its batch, a time at its instant.
	again := follow(c, "?cursor="+first)
	again.wantChanges("update:a", "add:b")
	again.wantChanges("delete:a", "update:b")
	again.want(ready(third))
	at := follow(c, "?since=2026-11-27T09:00:01.000Z")
	at.wantChanges("update:a", "add:b")
	at.wantChanges("delete:a", "update:b")
	at.want(ready(third))
	follow(c, "").want(ready(third))
	follow(c, "?cursor="+third).want(ready(third))
	c.refused(400, "GET", "/api/buckets/me/data/events?cursor=x", nil)
	c.refused(400, "GET", "/api/buckets/me/data/events?since=yesterday", nil)
	c.refused(404, "GET", "/api/buckets/me/none/events", nil)

	// What an update leaves out has not changed.
	check(t, b.Upload(hubtest.File{Path: "b", Content: []byte("4")}))
	if text := live.next(); strings.Contains(text, `"size"`) || !strings.Contains(text, `"xetHash"`) || !strings.Contains(text, `"uploadedAt":"2026`) {
		t.Errorf("an update of the same size: %s", text)
	}

	// 15 minutes are replayed. A client that has missed nothing older needs no reset.
	clock.pass(15 * time.Minute)
	late := follow(c, "?cursor="+first)
	late.want(tooOld, "EOF")
	follow(c, "?cursor="+second).wantChanges("delete:a", "update:b")
	clock.pass(time.Hour)
	follow(c, "?cursor="+third).want(tooOld, "EOF")
	quiet := ok[object](c, "GET", "/api/buckets/me/data", nil)["updatedAt"].(string)
	if text := follow(c, "?since="+url.QueryEscape(quiet)).next(); !strings.HasPrefix(text, "event: ready ") {
		t.Errorf("since the last change: %s", text)
	}
	follow(c, "?since=2026-11-27T09:00:00.000Z").want(tooOld, "EOF")
}

func TestFeedFaults(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{})
	b := must(s.CreateBucket("me/data", hubtest.RepoOptions{}))
	upload(t, b, "a", "1")
	live := follow(c, "")
	cursor := decoded[struct{ Cursor string }](t, strings.TrimPrefix(live.next(), "event: ready data: ")).Cursor
	check(t, b.Feed.Send("weather", object{"sun": true}))
	live.want(`event: weather data: {"sun":true}`)
	b.Feed.Reconnect()
	live.want(`event: reconnect data: {"cursor":"`+cursor+`"}`, "EOF")

	// A stream sends what happened before its end, and its cursor leads to what happened after.
	live = follow(c, "?cursor="+cursor)
	live.want(ready(cursor))
	upload(t, b, "before", "1")
	b.Feed.Reconnect()
	upload(t, b, "after", "1")
	cursor = live.wantChanges("add:before")
	live.want(`event: reconnect data: {"cursor":"`+cursor+`"}`, "EOF")
	live = follow(c, "?cursor="+cursor)
	cursor = live.wantChanges("add:after")
	live.want(ready(cursor))
	b.Feed.Cut()
	live.want("cut")

	silent := follow(c, "?cursor="+cursor)
	silent.want(ready(cursor))
	b.Feed.Silence()
	upload(t, b, "b", "2")
	live = follow(c, "?cursor="+cursor)
	live.wantChanges("add:b")
	live.next()
	b.Feed.Cut() // ends the silent one too, which has sent nothing
	live.want("cut")
	silent.want("cut")

	live = follow(c, "")
	live.next()
	b.Feed.Reset()
	live.want(tooOld, "EOF")
	follow(c, "?cursor="+cursor).want(tooOld, "EOF")

	s.Faults.Inject(hubtest.Fault{Path: "/api/buckets/me/data/events", Requests: 1, Answer: hubtest.Unavailable(3 * time.Second)})
	if header, _ := c.refused(503, "GET", "/api/buckets/me/data/events", nil); header.Get("Retry-After") != "3" {
		t.Errorf("503 with %v", header)
	}
	live = follow(c, "")
	live.next()
	check(t, b.Delete())
	live.want("EOF")
	check(t, b.Feed.WaitStreams(t.Context(), 0))
	if n := b.Feed.Streams(); n != 0 {
		t.Errorf("%d streams are open", n)
	}
}

func TestFeedComments(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, hubtest.Options{KeepAlive: time.Millisecond, API: hubtest.API{OldCursorResets: true}, ReplayWindow: time.Nanosecond})
	b := must(s.CreateBucket("me/data", hubtest.RepoOptions{}))
	live := follow(c, "")
	live.want("event: ready data: {}", ": keep-alive", ": keep-alive")
	upload(t, b, "a", "1")
	for {
		text := live.next()
		if text == ": keep-alive" {
			continue
		}
		var data struct{ Cursor string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "event: changes data: ")), &data); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		time.Sleep(2 * time.Millisecond) // longer than the replay window, with its times in milliseconds
		follow(c, "?cursor="+data.Cursor).want(tooOld, "EOF")
		return
	}
}
