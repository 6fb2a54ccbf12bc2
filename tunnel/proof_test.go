package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// asker is a public side of its own making.
type asker func(*http.Request) (*http.Response, error)

func (a asker) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

// answering is a client whose every request h answers.
func answering(h http.HandlerFunc) *http.Client {
	return &http.Client{Transport: asker(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		h(w, r)
		return w.Result(), nil
	})}
}

func TestProof(t *testing.T) {
	t.Parallel()
	var p *Proof
	p = NewProof(answering(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/healthz" || r.UserAgent() != "test/1" {
			t.Errorf("%s %s by %s", r.Method, r.URL, r.UserAgent())
		}
		json.NewEncoder(w).Encode(map[string]string{"status": "ok", "signature": p.Sign(r.FormValue("nonce"))})
	}), "test/1")
	if err := p.Check(t.Context(), "https://a.example"); err != nil {
		t.Error(err)
	}
	for answer, says := range map[string]string{
		`{"signature": "` + NewProof(nil, "").Sign("x") + `"}`: "something else answers there: 418 I'm a teapot",
		"nothing": "something else answers there: 418 I'm a teapot",
	} {
		p := NewProof(answering(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			w.Write([]byte(answer))
		}), "")
		if err := p.Check(t.Context(), "https://a.example"); !errors.Is(err, ErrElsewhere) || err.Error() != says {
			t.Errorf("%s: %v", answer, err)
		}
	}
	p = NewProof(&http.Client{Transport: asker(func(*http.Request) (*http.Response, error) { return nil, errors.New("no way") })}, "")
	if err := p.Check(t.Context(), "https://a.example"); err == nil || errors.Is(err, ErrElsewhere) || strings.Contains(err.Error(), "nonce") {
		t.Errorf("%v", err)
	}
	one, other := NewProof(nil, ""), NewProof(nil, "")
	if one.Sign("n") == other.Sign("n") {
		t.Error("two proofs sign alike")
	}
}

func TestChecksAreRationed(t *testing.T) {
	t.Parallel()
	p := NewProof(&http.Client{Transport: asker(func(*http.Request) (*http.Response, error) { return nil, errors.New("no way") })}, "")
	for range proofsAnHour {
		if err := p.Check(context.Background(), "https://a.example"); err == nil || errors.Is(err, errBudget) {
			t.Fatalf("check: %v", err)
		}
	}
	if err := p.Check(context.Background(), "https://a.example"); !errors.Is(err, errBudget) {
		t.Errorf("one more check: %v", err)
	}
	if !p.spend(time.Now().Add(time.Hour)) {
		t.Error("an hour later there is still none left")
	}
}

func TestRegister(t *testing.T) {
	before := registered.providers
	t.Cleanup(func() { registered.providers = before })
	registered.providers = nil
	build := func(Settings) Provider { return nil }
	for _, r := range []Registration{{Name: "b", New: build}, {Name: "c", Default: true, New: build}, {Name: "a", New: build}} {
		Register(r)
	}
	var names []string
	for _, r := range Registered() {
		names = append(names, r.Name)
	}
	if strings.Join(names, " ") != "c a b" {
		t.Errorf("registered: %q", names)
	}
	for name, want := range map[string]string{"": "c", "a": "a", "d": ""} {
		if r, ok := Lookup(name); r.Name != want || ok != (want != "") {
			t.Errorf("Lookup(%q): %q, %v", name, r.Name, ok)
		}
	}
	for _, r := range []Registration{{}, {Name: "d"}, {Name: "a", New: build}, {Name: "d", Default: true, New: build}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Register took %+v", r)
				}
			}()
			Register(r)
		}()
	}
}

func TestLeads(t *testing.T) {
	t.Parallel()
	signer := NewProof(nil, "")
	for name, test := range map[string]struct {
		local, public func(nonce string) string // signatures
		elsewhere     bool
		says          string // "" for no error
	}{
		"the same":         {local: signer.Sign, public: signer.Sign},
		"another":          {local: signer.Sign, public: NewProof(nil, "").Sign, elsewhere: true, says: "200"},
		"no signature":     {local: signer.Sign, public: func(string) string { return "" }, elsewhere: true, says: "200"},
		"no hubhook here":  {local: func(string) string { return "" }, public: func(string) string { return "" }, says: "as hubhook does"},
		"only it is known": {local: func(string) string { return "" }, public: signer.Sign, says: "as hubhook does"},
	} {
		p := NewProof(answering(func(w http.ResponseWriter, r *http.Request) {
			sign := test.public
			if r.Host == "127.0.0.1:7860" {
				sign = test.local
			}
			json.NewEncoder(w).Encode(map[string]string{"signature": sign(r.FormValue("nonce"))})
		}), "test/1")
		err := p.Leads(t.Context(), "https://a.example", "http://127.0.0.1:7860")
		if (err == nil) != (test.says == "") || errors.Is(err, ErrElsewhere) != test.elsewhere || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v; want one that says %q, elsewhere %v", name, err, test.says, test.elsewhere)
		}
	}
}
