package tunnel

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	proofTimeout = 5 * time.Second
	// A free ngrok account has 20,000 requests a month. 12 an hour are 8,640, and need a tunnel that is lost every five minutes.
	proofsAnHour = 12
)

// ErrElsewhere says that something else than this process answers at the public URL.
var ErrElsewhere = errors.New("something else answers there")

var errBudget = fmt.Errorf("%d checks were made within the last hour already", proofsAnHour)

// Proof proves that a public URL leads to this process: it sends a nonce there and looks for the signature that only this process can
// make. The program answers GET /healthz?nonce=NONCE with a JSON object whose "signature" is that of [Proof.Sign].
type Proof struct {
	key    []byte
	client *http.Client
	agent  string

	mu     sync.Mutex
	recent []time.Time // checks of the last hour
}

// NewProof returns a proof whose requests go through client and name agent as their User-Agent. With a nil client they go through the
// proxy of the environment and follow no redirect, which would be somebody else's answer.
func NewProof(client *http.Client, agent string) *Proof {
	p := &Proof{key: make([]byte, 32), client: client, agent: agent}
	rand.Read(p.key)
	if p.client == nil {
		p.client = &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true},
		}
	}
	return p
}

// Sign is the answer to a nonce.
func (p *Proof) Sign(nonce string) string {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(nonce))
	return hex.EncodeToString(mac.Sum(nil))
}

// Check sends one nonce to url, and takes 5 s at most. The error is nil where the signature is ours and wraps [ErrElsewhere] where another
// answer came. Any other error proves nothing: the URL could not be asked from here, or was asked 12 times within the last hour.
func (p *Proof) Check(ctx context.Context, url string) error {
	if !p.spend(time.Now()) {
		return errBudget
	}
	nonce := rand.Text()
	answer, err := p.ask(ctx, url, nonce)
	if err != nil {
		return err
	}
	return answer.match(p.Sign(nonce))
}

// Leads checks that a public URL leads to the process that answers at local, which can be another process than this one. It sends both URLs
// the same nonce and compares the signatures. Its errors are those of Check, and one for a local that does not answer with a signature.
func (p *Proof) Leads(ctx context.Context, public, local string) error {
	nonce := rand.Text()
	ours, err := p.ask(ctx, local, nonce)
	if err != nil {
		return fmt.Errorf("ask %s: %w", local, err)
	}
	if ours.signature == "" {
		return fmt.Errorf("ask %s: it does not answer as hubhook does: %s", local, ours.what)
	}
	answer, err := p.ask(ctx, public, nonce)
	if err != nil {
		return err
	}
	return answer.match(ours.signature)
}

// proofAnswer is what a URL answered to a nonce.
type proofAnswer struct {
	signature string // "" for none
	what      string // the status, with the provider's code
}

func (a proofAnswer) match(signature string) error {
	if hmac.Equal([]byte(a.signature), []byte(signature)) {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrElsewhere, a.what)
}

// ask sends a nonce to url.
func (p *Proof) ask(ctx context.Context, url, nonce string) (a proofAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz?nonce="+nonce, nil)
	if err != nil {
		return a, err
	}
	providers := Registered()
	for _, provider := range providers {
		for name, values := range provider.Header {
			r.Header[name] = values
		}
	}
	r.Header.Set("User-Agent", p.agent)
	resp, err := p.client.Do(r)
	if err != nil {
		return a, withoutNonce(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return a, withoutNonce(err)
	}
	var answer struct {
		Signature string `json:"signature"`
	}
	a.what = resp.Status
	if json.Unmarshal(body, &answer) == nil {
		a.signature = answer.Signature
	}
	for _, provider := range providers {
		if provider.Code == nil {
			continue
		}
		if code := provider.Code(string(body)); code != "" {
			a.what += ", " + code
		}
	}
	return a, nil
}

// spend takes one of the checks that the last hour allows, and reports whether there was one left.
func (p *Proof) spend(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.recent) > 0 && now.Sub(p.recent[0]) >= time.Hour {
		p.recent = p.recent[1:]
	}
	if len(p.recent) >= proofsAnHour {
		return false
	}
	p.recent = append(p.recent, now)
	return true
}

// withoutNonce drops the request's URL from an error: the line it stands in names the URL already.
func withoutNonce(err error) error {
	var wrapped interface{ Unwrap() error }
	if errors.As(err, &wrapped) && wrapped.Unwrap() != nil && strings.Contains(err.Error(), "nonce=") {
		return wrapped.Unwrap()
	}
	return err
}
