package server

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/version"
	"github.com/hubhook/hubhook/ui"
)

// routes is the public face. Nothing else is reachable through the tunnel. `make docs` makes a table of the paths and their comments.
func (s *Server) routes() http.Handler {
	home := s.settings.Home
	if home == nil {
		home = ui.Home(s.homeView)
	}
	router := mux.NewRouter().SkipClean(true)
	router.Path("/").Handler(s.only(home, http.MethodGet, http.MethodHead))                               // the home page: endpoints with their URLs, how to set up the webhook; JSON for `Accept: application/json`
	router.Path("/healthz").Handler(s.only(http.HandlerFunc(s.healthz), http.MethodGet, http.MethodHead)) // 200 while the process is alive
	router.Path("/readyz").Handler(s.only(http.HandlerFunc(s.readyz), http.MethodGet, http.MethodHead))   // 200 while deliveries are accepted, otherwise 503 with the reason
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // whatever body there is stays unread
		respondError(w, http.StatusNotFound, "nothing is served here; endpoints are under /webhooks/")
	})
	return withCleanPath(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A request with both Transfer-Encoding and Content-Length may hide a second one from a proxy that goes by the length. Then the
		// connection must not be used again (RFC 9112, section 6.1). net/http has removed the length, so this goes for all that are chunked.
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		// A delivery needs nothing of what the router finds out, and the router copies each request twice.
		if strings.HasPrefix(r.URL.Path, "/webhooks/") {
			s.admit(w, r)
			return
		}
		router.ServeHTTP(w, r)
	}))
}

// withCleanPath folds doubled slashes and cuts trailing ones, so that both name the same endpoint. Redirecting instead would be a failed
// delivery: the Hub calls only 2xx a success.
func withCleanPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if strings.Contains(path, "//") || len(path) > 1 && strings.HasSuffix(path, "/") {
			u := *r.URL
			u.Path, u.RawPath = foldSlashes(path), ""
			clean := *r
			clean.URL = &u
			r = &clean
		}
		next.ServeHTTP(w, r)
	})
}

func foldSlashes(path string) string {
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	return "/" + strings.Join(segments, "/")
}

// only answers 405 to all but the given methods.
func (s *Server) only(next http.Handler, methods ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, m := range methods {
			if r.Method == m {
				next.ServeHTTP(w, r)
				return
			}
		}
		w.Header().Set("Allow", strings.Join(methods, ", "))
		w.Header().Set("Connection", "close")
		respondError(w, http.StatusMethodNotAllowed, "method "+s.shown(r.Method, maxShownName)+" is not allowed here; use "+methods[0])
	})
}

type health struct {
	Status    string `json:"status"`
	Signature string `json:"signature,omitempty"` // of the nonce that was sent
	Reason    string `json:"reason,omitempty"`
	Tunnel    string `json:"tunnel,omitempty"` // its state, where there is one
	Keeps     bool   `json:"keeps,omitempty"`  // the webhook that was asked about is kept by this process
}

// healthz says that the process is alive. It signs a nonce with a key that only this process has. That proves to the caller that the URL
// leads to this process. Another hubhook asks here whether this one keeps a webhook, so that the two do not fight over it; the question
// needs the webhook's ID.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	h := health{Status: "ok"}
	if nonce := r.URL.Query().Get("nonce"); nonce != "" && len(nonce) <= maxNonce {
		h.Signature = s.prober.Sign(nonce)
	}
	if id := r.URL.Query().Get("webhook"); id != "" {
		keeper := s.keeper.Load()
		h.Keeps = keeper != nil && keeper.Keeps(id)
	}
	w.Header().Set("Cache-Control", "no-store")
	respond(w, http.StatusOK, h)
}

const maxNonce = 64 // bytes

// readyz says whether a delivery would be accepted now.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	reason := ""
	switch {
	case s.stopping.Load():
		reason = "shutting down"
	case s.queue.Load() == nil:
		reason = "the queue is not open"
	}
	if reason != "" {
		w.Header().Set("Retry-After", retryAfter)
		respond(w, http.StatusServiceUnavailable, health{Status: "unavailable", Reason: reason})
		return
	}
	respond(w, http.StatusOK, health{Status: "ready", Tunnel: s.where.get().tunnel.Phase})
}

func (s *Server) homeView(r *http.Request) ui.HomeView {
	p, base := s.where.get(), s.publicBase()
	if base == "" { // behind a server of one's own only the request knows
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		base = scheme + "://" + r.Host
	}
	return ui.HomeView{Endpoints: s.endpointURLs(base), PublicURL: p.public, SecretSet: s.secrets.defined(), Version: version.String()}
}

func (s *Server) endpointURLs(base string) []api.Endpoint {
	endpoints := s.listed()
	list := make([]api.Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		list = append(list, api.Endpoint{Name: e.name, URL: s.endpointURL(base, e.name)})
	}
	return list
}

func (s *Server) endpointURL(base, name string) string { return base + "/webhooks/" + name }

func (s *Server) names() []string {
	endpoints := s.listed()
	names := make([]string, 0, len(endpoints))
	for _, e := range endpoints {
		names = append(names, e.name)
	}
	return names
}
