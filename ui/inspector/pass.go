package inspector

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/api"
)

const (
	passLife  = time.Minute // a browser takes less to start
	maxPasses = 16          // that wait to be used; the oldest gives way
)

// passes are codes each of which gets one browser in, once, soon after it was made. Who starts a browser with a URL shows that to
// everybody who can list the processes of this machine, and the token in it would let them in for as long as it is kept.
type passes struct {
	now func() time.Time

	mu   sync.Mutex
	open []pass // oldest first
}

// pass is the trace of a code, which is compared without telling how much of it is right.
type pass struct {
	sum   [sha256.Size]byte
	until time.Time
}

// issue returns a new code.
func (p *passes) issue() string {
	code := Token()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = append(p.open, pass{sha256.Sum256([]byte(code)), p.now().Add(passLife)})
	if len(p.open) > maxPasses {
		p.open = slices.Delete(p.open, 0, 1)
	}
	return code
}

// use reports whether code is one that was issued within the last minute, and has it hold no longer.
func (p *passes) use(code string) bool {
	sum, now := sha256.Sum256([]byte(code)), p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = slices.DeleteFunc(p.open, func(o pass) bool { return !now.Before(o.until) })
	i := slices.IndexFunc(p.open, func(o pass) bool { return o.sum == sum })
	if i < 0 {
		return false
	}
	p.open = slices.Delete(p.open, i, i+1)
	return true
}

// Pass returns a code that stands for the token in the URL of the page, for one browser and for a minute. It is for starting a browser
// with that URL, which other users of the machine can see in the list of processes.
func (in *Inspector) Pass() string { return in.passes.issue() }

func (in *Inspector) issuePass(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, api.Pass{Pass: in.Pass()})
}
