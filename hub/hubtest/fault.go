package hubtest

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Faults make requests to a [Hub]'s API go wrong.
type Faults struct {
	mu   sync.Mutex
	list []*injected
}

// Fault is what goes wrong with the next requests that match.
type Fault struct {
	// Method is the method of the requests that it meets. Empty: any.
	Method string
	// Path is the path of the requests that it meets, without percent-encoding. It may end with *, which stands for any end. Empty: any.
	Path string
	// Requests is the number of requests that it meets. 0: all, until it is removed.
	Requests int
	// After lets the Hub do what the request asks first. Only the answer is lost.
	After bool
	// Answer answers instead of the Hub: [Status], [TooManyRequests], [Unavailable], [HTML], [Hang], [Cut] or a function of your own. The request's
	// context ends when the Hub is closed.
	Answer http.HandlerFunc
}

type injected struct {
	Fault
	left int // how many more requests it meets
}

// Inject adds a fault. Of several that match a request, the oldest one answers. The function that it returns removes the fault and says how
// many requests it has met.
func (f *Faults) Inject(fault Fault) (remove func() int) {
	in := &injected{Fault: fault, left: fault.Requests}
	if fault.Requests <= 0 {
		in.left = math.MaxInt
	}
	first := in.left
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, in)
	return func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.list = slices.DeleteFunc(f.list, func(other *injected) bool { return other == in })
		return first - in.left
	}
}

// Clear removes all faults.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

// next returns the fault for a request, nil if there is none, and counts it.
func (f *Faults) next(r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, in := range f.list {
		if !matches(in.Method, in.Path, r.Method, r.URL.Path) {
			continue
		}
		if in.left--; in.left == 0 {
			f.list = slices.Delete(f.list, n, n+1)
		}
		return &in.Fault
	}
	return nil
}

// matches reports whether a request has the method and the path of a pattern, as [Fault] describes them.
func matches(method, pattern, ofMethod, ofPath string) bool {
	if method != "" && method != ofMethod {
		return false
	}
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(ofPath, prefix)
	}
	return pattern == "" || pattern == ofPath
}

// Status answers with a status and an error in the shape {"error": TEXT}.
func Status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("X-Error-Message", http.StatusText(code))
		w.WriteHeader(code)
		fmt.Fprintf(w, "{\"error\":%q}\n", http.StatusText(code))
	}
}

// TooManyRequests answers 429 as the Hub does to a client over its quota: RateLimit says that nothing is left for so long. Retry-After says
// it too; the feed of a bucket sends it, for the other paths it is an assumption. wait is rounded up to seconds.
func TooManyRequests(wait time.Duration) http.HandlerFunc {
	seconds := int64((wait + time.Second - 1) / time.Second)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("RateLimit", fmt.Sprintf(`"api";r=0;t=%d`, seconds))
		w.Header().Set("RateLimit-Policy", `"fixed window";"api";q=500;w=300`)
		w.Header().Set("Retry-After", fmt.Sprint(seconds))
		Status(http.StatusTooManyRequests)(w, r)
	}
}

// Unavailable answers 503 with Retry-After, as the feed of a bucket does. wait is rounded up to seconds.
func Unavailable(wait time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", fmt.Sprint(int64((wait+time.Second-1)/time.Second)))
		Status(http.StatusServiceUnavailable)(w, r)
	}
}

// HTML answers with a status and a page instead of JSON, as a proxy before the Hub would.
func HTML(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(code)
		fmt.Fprintf(w, "<!doctype html>\n<title>%d %s</title>\n<h1>We are down for maintenance</h1>\n", code, http.StatusText(code))
	}
}

// Hang never answers. It ends when the client gives up or the Hub is closed.
func Hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // net/http notices only then that the client has gone
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Cut ends the connection without an answer.
func Cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
