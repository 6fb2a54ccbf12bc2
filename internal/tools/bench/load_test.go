package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// receiver is a server that keeps what was delivered to it.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	ids     map[string]int
	bodies  map[string]int
	secrets map[string]int
	status  atomic.Int32
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{ids: map[string]int{}, bodies: map[string]int{}, secrets: map[string]int{}}
	r.status.Store(http.StatusOK)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Errorf("read a delivery: %v", err)
		}
		r.mu.Lock()
		r.ids[request.Header.Get("Webhook-Id")]++
		r.bodies[request.URL.Path+" "+request.Host+" "+string(body)]++
		r.secrets[request.Header.Get("X-Webhook-Secret")]++
		r.mu.Unlock()
		w.WriteHeader(int(r.status.Load()))
		io.WriteString(w, `{"error": "not today"}`)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) load() *load {
	return newLoad(r.Listener.Addr().String(), "hook.example", "/webhooks/inbox", "s3cret", []byte(`{"a": 1}`))
}

func TestClosedLoopSendsEachDeliveryOnce(t *testing.T) {
	r := newReceiver(t)
	l := r.load()
	var answered int
	for range 2 { // ids go on from round to round
		n, elapsed, err := l.closedLoop(t.Context(), 4, 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if n < 4 || elapsed <= 0 {
			t.Errorf("closedLoop over 4 connections = %d answers in %v, want at least one for each", n, elapsed)
		}
		answered += n
	}
	if len(r.ids) != answered {
		t.Errorf("%d answers to deliveries with %d different ids", answered, len(r.ids))
	}
	for id, n := range r.ids {
		if n != 1 || len(id) != idDigits {
			t.Errorf("id %q came %d times, want %d digits, once", id, n, idDigits)
		}
	}
	if want := `/webhooks/inbox hook.example {"a": 1}`; len(r.bodies) != 1 || r.bodies[want] != answered {
		t.Errorf("received %v, want %q only", r.bodies, want)
	}
	if r.secrets["s3cret"] != answered {
		t.Errorf("received the secrets %v, want s3cret %d times", r.secrets, answered)
	}
}

func TestARefusedDeliveryIsAnError(t *testing.T) {
	r := newReceiver(t)
	r.status.Store(http.StatusServiceUnavailable)
	_, _, closed := r.load().closedLoop(t.Context(), 2, time.Millisecond)
	_, open := r.load().openLoop(t.Context(), 2, 1000, 20*time.Millisecond)
	for _, err := range []error{closed, open} {
		if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "not today") {
			t.Errorf("error = %v, want the status and the beginning of the body", err)
		}
	}
}

func TestOpenLoopSendsWhatIsDue(t *testing.T) {
	r := newReceiver(t)
	const rate, d = 2000, 100 * time.Millisecond
	latencies, err := r.load().openLoop(t.Context(), 8, rate, d)
	if err != nil {
		t.Fatal(err)
	}
	if due := len(arrivals(rate, d)); len(latencies) != due || len(r.ids) != due {
		t.Errorf("%d latencies of %d deliveries, want %d", len(latencies), len(r.ids), due)
	}
	if first := slices.Min(latencies); first <= 0 {
		t.Errorf("a latency of %v: it was counted from after the answer", first)
	}
}

func TestArrivals(t *testing.T) {
	due := arrivals(1000, 10*time.Second)
	if n := len(due); n < 9500 || n > 10500 {
		t.Errorf("%d arrivals in 10 s at 1000/s", n)
	}
	if !slices.IsSorted(due) || due[len(due)-1] >= 10*time.Second {
		t.Error("arrivals are not in order, or beyond the end")
	}
}

func TestReadAnswer(t *testing.T) {
	const next = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
	tests := map[string]struct {
		answer string
		want   string // part of the error, "" for none
	}{
		"200":                {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\n{}", ""},
		"404":                {"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", "404 Not Found: gone"},
		"a redirect":         {"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", "301"},
		"no HTTP":            {"SSH-2.0-OpenSSH\r\n", "no status line"},
		"without length":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no Content-Length"},
		"cut in the header":  {"HTTP/1.1 200 OK\r\nContent-", "EOF"},
		"an unreadable size": {"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n", "Content-Length"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in := bufio.NewReader(strings.NewReader(test.answer + next))
			if strings.HasPrefix(name, "cut") {
				in = bufio.NewReader(strings.NewReader(test.answer))
			}
			err := readAnswer(in)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("error = %v, want one with %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := readAnswer(in); err != nil {
				t.Errorf("the next answer on the connection: %v", err)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	values := make([]float64, 100)
	for i := range values {
		values[i] = float64(100 - i)
	}
	for p, want := range map[float64]float64{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := percentile(values, p); got != want {
			t.Errorf("percentile(1..100, %v) = %v, want %v", p, got, want)
		}
	}
	if got := percentile([]time.Duration{7}, 0.99); got != 7 {
		t.Errorf("percentile of one value = %v, want it", got)
	}
}

func TestSumByState(t *testing.T) {
	const text = `# TYPE hubhook_stored_deliveries gauge
hubhook_stored_deliveries{endpoint="a",state="done"} 1.25e+06
hubhook_stored_deliveries{endpoint="b",state="done"} 2
hubhook_stored_deliveries{endpoint="b",state="waiting"} 3
hubhook_stored_deliveries_other{endpoint="b",state="waiting"} 4
`
	sums, err := sumByState(text, "hubhook_stored_deliveries")
	if err != nil || sums["done"] != 1250002 || sums["waiting"] != 3 {
		t.Errorf("sums = %v, %v", sums, err)
	}
	if _, err := sumByState(text, "hubhook_deliveries_total"); err == nil {
		t.Error("a metric that isn't there is no error: the check of outcomes would pass on nothing")
	}
}

func TestTable(t *testing.T) {
	var measured rounds
	for _, r := range [][2]float64{{30, 100}, {10, 50}, {40, 100}} {
		measured.add(r[0], r[1])
	}
	short := measured.figure("deliveries", "bare", atLeast(0.35), perSecond)
	met := measured.figure("start", "bare", target{atMost: true, bound: 5}, perSecond)
	var b bytes.Buffer
	if err := writeTable(&b, []figure{short, met}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"deliveries  30/s     bare 100/s  0.30 (0.20-0.40)  at least 0.35  SHORT OF TARGET\n",
		"start       30/s     bare 100/s  0.30 (0.20-0.40)  at most 5      ok\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestObey(t *testing.T) {
	file := t.TempDir() + "/cpu.pprof"
	var replies bytes.Buffer
	if err := obey(strings.NewReader("profile "+file+"\nstop\n"), &replies); err != nil {
		t.Fatal(err)
	}
	if got := replies.String(); got != "done\ndone\n" {
		t.Errorf("replies = %q", got)
	}
	for _, orders := range []string{"stop\n", "dance\n"} {
		if err := obey(strings.NewReader(orders), io.Discard); err == nil {
			t.Errorf("obey(%q) is no error", orders)
		}
	}
}
