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
	maxPasses = 16          // unused passes; beyond it the oldest is dropped
)

// passes are codes. Each lets one browser in, once, soon after it was made. Everybody who can list the machine's processes can see the URL
// that a browser is started with. A token in that URL would let them in for as long as the token is valid.
type passes struct {
	now func() time.Time

	mu   sync.Mutex
	open []pass // oldest first
}

// pass holds the hash of a code, so that comparing reveals nothing about the code.
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

// use reports whether code was issued within the last minute, and makes it invalid.
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

// Pass returns a code that replaces the token in the page's URL, for one browser and for a minute. Use it to start a browser with that
// URL, because other users of the machine can see the URL in the list of processes.
func (in *Inspector) Pass() string { return in.passes.issue() }

func (in *Inspector) issuePass(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, api.Pass{Pass: in.Pass()})
}
