package ui

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/internal/api"
)

const hubDocs = "https://huggingface.co/docs/hub/webhooks"

// HomeView is what the home page says. A stranger may read all of it.
type HomeView struct {
	Endpoints []api.Endpoint // with their full URLs
	PublicURL string         // "" while the Hub can't reach this server
	SecretSet bool           // whether deliveries need a secret; never which
	Version   string         // of hubhook, "" to keep it to oneself
}

var (
	//go:embed home.html
	homeHTML string
	//go:embed home.css
	homeStyle string
	//go:embed home.js
	homeScript string

	homePage = template.Must(template.New("home").Parse(homeHTML))

	// homePolicy lets the page do nothing but apply its own style and run its own script. Spaces show it in a frame on the Hub's site.
	homePolicy = "default-src 'none'; style-src " + sourceHash(homeStyle) + "; script-src " + sourceHash(homeScript) +
		"; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self' https://huggingface.co"
)

func sourceHash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// Home serves the page that anyone on the public URL may see: the endpoints, and how to set up a webhook that posts to one. It has
// no delivery and no secret, and loads nothing from elsewhere. A request whose Accept prefers application/json gets the endpoints as
// JSON. It answers GET and HEAD on whatever path it is mounted at, and asks view anew for each request.
func Home(view func(*http.Request) HomeView) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Robots-Tag", "noindex, nofollow")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"error": "the home page takes GET; endpoints are under /webhooks/"})
			return
		}
		h.Set("Vary", "Accept")
		v := view(r)
		if prefersJSON(r.Header.Values("Accept")) {
			writeJSON(w, http.StatusOK, homeJSON(v))
			return
		}
		var page bytes.Buffer
		err := homePage.Execute(&page, map[string]any{
			"Endpoints": v.Endpoints,
			"PublicURL": v.PublicURL,
			"SecretSet": v.SecretSet,
			"Version":   v.Version,
			"Docs":      hubDocs,
			"Settings":  settingsURL,
			"Curl":      curlExample(v),
			"Style":     template.CSS(homeStyle),
			"Script":    template.JS(homeScript),
		})
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "writing the home page: " + err.Error()})
			return
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", homePolicy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Length", strconv.Itoa(page.Len()))
		w.Write(page.Bytes()) // who has left needs no answer
	})
}

type homeAnswer struct {
	Endpoints []api.Endpoint `json:"endpoints"`
	PublicURL string         `json:"public_url,omitempty"`
	Secret    bool           `json:"secret"`
	Settings  string         `json:"settings"`
	Docs      string         `json:"docs"`
	Version   string         `json:"version,omitempty"`
}

func homeJSON(v HomeView) homeAnswer {
	a := homeAnswer{
		Endpoints: v.Endpoints, PublicURL: v.PublicURL, Secret: v.SecretSet, Settings: settingsURL, Docs: hubDocs, Version: v.Version,
	}
	if a.Endpoints == nil {
		a.Endpoints = []api.Endpoint{}
	}
	return a
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := marshal(v)
	if err != nil {
		http.Error(w, fmt.Sprintf(`{"error":"writing the answer: %T can't be JSON"}`, v), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // who has left needs no answer
}

// curlExample is a whole request to the first endpoint, for a POSIX shell.
func curlExample(v HomeView) string {
	if len(v.Endpoints) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "curl %s \\\n", shellQuote(v.Endpoints[0].URL))
	if v.SecretSet {
		b.WriteString("  -H \"X-Webhook-Secret: $WEBHOOK_SECRET\" \\\n")
	}
	b.WriteString(`  -H 'Content-Type: application/json' \
  -d '{"event": {"action": "update", "scope": "repo.content"},
       "repo": {"type": "model", "name": "me/model"},
       "updatedRefs": [{"ref": "refs/heads/main"}],
       "webhook": {"version": 3}}'`)
	return b.String()
}

func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
