package e2e_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

var vmPeak = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)

// peak returns the most memory that the process has had so far, in MiB.
func (p *program) peak() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	kib := vmPeak.FindSubmatch(status)
	if kib == nil {
		p.t.Fatalf("no peak in %s", status)
	}
	n, err := strconv.Atoi(string(kib[1]))
	if err != nil {
		p.t.Fatal(err)
	}
	return n >> 10
}

// wantPeak checks that the process never had more than most MiB, and that it serves.
func (p *program) wantPeak(what string, most int) {
	p.t.Helper()
	if a := p.post("inbox", push(p.t), "X-Webhook-Secret", secret); a.status != 200 {
		p.t.Errorf("after %s a delivery is answered %d %s", what, a.status, a.body)
	}
	peak := p.peak()
	if peak > most {
		p.t.Errorf("after %s the process has had %d MiB at most; want no more than %d", what, peak, most)
	}
	p.t.Logf("after %s: %d MiB at most, of %d", what, peak, most)
}

// Bodies of 16 MiB, all that is allowed, that would become many times as large where a reader makes values of them.
func TestMemoryOfHostileBodies(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	const filtered = "endpoints: {inbox: {}, filtered: {if: 'any(updatedRefs, .ref == \"x\") || len(updatedConfig) == 1 || repo.name == \"x\"', run: 'true', attempts: 1}}"
	if err := os.WriteFile(h.dir+"/work/hubhook.yaml", []byte(filtered), 0o600); err != nil {
		t.Fatal(err)
	}
	p := h.serve(t, hubhook, "--port", "0", "--inspector", "127.0.0.1:0", "--no-tunnel", "--secret", secret, "--reply-within", "30s")
	const size = 16<<20 - 4<<10
	head := strings.TrimSuffix(strings.TrimSpace(strings.Replace(push(t), `"updatedRefs"`, `"earlierRefs"`, 1)), "}")
	var keys strings.Builder
	for i := 0; keys.Len() < size; i++ {
		fmt.Fprintf(&keys, `"k%d":0,`, i)
	}
	members := keys.String()[:size]
	members = members[:strings.LastIndexByte(members, ',')]
	post := func(endpoint, name, body string) {
		t.Helper()
		if a := p.post(endpoint, body, "X-Webhook-Secret", secret); a.status != 200 {
			t.Errorf("%s to %s: %d %.200s", name, endpoint, a.status, a.body)
		}
	}
	post("inbox", "a deep array", head+`,"x":`+strings.Repeat("[", size/2)+strings.Repeat("]", size/2)+"}")
	post("inbox", "many fields", head+","+members+"}")
	post("inbox", "a huge number", head+`,"x":1e`+strings.Repeat("9", size)+"}")
	post("inbox", "many escapes", head+`,"x":"`+strings.Repeat(`\u0000`, size/6)+`"}`)
	post("filtered", "many refs", head+`,"updatedRefs":[`+strings.Repeat(`{"ref":"x"},`, size/12)+`{}]}`)
	post("filtered", "many settings", head+`,"updatedConfig":{`+members+"}}")
	var packed bytes.Buffer
	pack := gzip.NewWriter(&packed)
	io.CopyN(pack, spaces{}, 64<<20) // a buffer takes all
	if err := pack.Close(); err != nil {
		t.Fatal(err)
	}
	if a := p.post("inbox", packed.String(), "X-Webhook-Secret", secret, "Content-Encoding", "gzip"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a packed body of 64 MiB: %d %s; want 422", a.status, a.body)
	}
	p.wantPeak("hostile bodies", 220)
}

// spaces is an endless row of spaces, which JSON allows everywhere.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// Whoever does not know the secret takes little of the process's memory, however many connections and headers he sends, and holds nobody up.
func TestMemoryOfStrangers(t *testing.T) {
	t.Parallel()
	p := newHome(t).serve(t, hubhook, "--port", "0", "--inspector", "127.0.0.1:0", "--no-tunnel", "--secret", secret)
	addr := strings.TrimPrefix(p.base, "http://")

	// Heads that are too long: one header, or a great many.
	for name, bomb := range map[string]string{"a long header": "X: " + strings.Repeat("x", 8<<20), "many headers": strings.Repeat("X-Y: z\r\n", 1<<20), "a long path": ""} {
		c := dialRaw(t, addr, "localhost")
		path := "/webhooks/inbox"
		if bomb == "" {
			path += strings.Repeat("a", 8<<20)
		}
		// The server hangs up before all is sent.
		io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\n"+bomb+"\r\n\r\n")
		if answer, err := io.ReadAll(c.in); len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") || err == nil && len(answer) == 0 {
			t.Errorf("%s is answered %.100q (%v); want 431", name, answer, err)
		}
	}
	p.wantPeak("header bombs", 100)

	// Slow clients: half a head, or a whole one without its body. They stay while others are served.
	const slow = 400
	for i := range slow {
		c := dialRaw(t, addr, "localhost")
		request := "POST /webhooks/inbox HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 48<<10)
		if i%2 == 0 {
			request = "POST /webhooks/inbox HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\nExpect: 100-continue\r\n\r\n"
		}
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
	}
	p.wantPeak("slow clients", 160)

	// A flood of wrong requests.
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for range 250 {
				if a := p.post("inbox?x="+strings.Repeat("y", 4<<10), "{}", "X-Webhook-Secret", "wrong", "User-Agent", strings.Repeat("z", 4<<10)); a.status != 403 {
					t.Errorf("a wrong secret is answered %d %s", a.status, a.body)
					return
				}
			}
		})
	}
	senders.Wait()
	p.wantPeak("a flood", 160)
	rejected, err := p.inspector().Rejected(t.Context())
	if err != nil || len(rejected.Rejected) > 200 || rejected.Total < 2000 {
		t.Errorf("of %d refused requests %d are kept (%v)", rejected.Total, len(rejected.Rejected), err)
	}
}
