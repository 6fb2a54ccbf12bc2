package inspector

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

var (
	//go:embed signin.html
	signInHTML string
	//go:embed signin.css
	signInCSS string

	signInTemplate = template.Must(template.New("signin").Parse(signInHTML))

	// signInPolicy allows the sign-in page its own style sheet and its form, which is sent to this server. The page has no script.
	signInPolicy = "default-src 'none'; style-src " + sourceHash(signInCSS) + "; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

func sourceHash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// webCommand opens the page, with its token, in the user's browser.
const webCommand = "hubhook deliveries list --web"

// A denial says why a request is not let in: to a person on the sign-in page, to a program in JSON.
type denial struct {
	page, api string
	alarming  bool // a token or cookie was sent, and is wrong
}

var (
	noToken = denial{
		page: "This page wants its token.",
		api:  "the inspector wants its token: open the URL that hubhook printed at its start, or send Authorization: Bearer TOKEN",
	}
	wrongToken = denial{
		page:     "That is not the token of the hubhook that answers here.",
		api:      "the token in this URL is wrong: open the URL that the running hubhook printed at its start",
		alarming: true,
	}
	wrongCookie = denial{
		page: "This browser signed in with another token: that of another hubhook at this address, or one that no longer holds.",
		api:  "the inspector's token is another one than this cookie's: open the URL that the running hubhook printed at its start",
	}
)

// signIn exchanges the token in the URL that hubhook printed for a cookie, and sends the browser to the same URL without it.
func (in *Inspector) signIn(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	given := query.Get("token")
	// Check the pass first: it is used up even if the browser has the cookie. Check the cookie last: a browser with the cookie may come
	// with the URL of an earlier run, whose token is wrong.
	if !in.passes.use(given) && !in.isToken(given) && !in.isToken(tokenIn(given)) && !in.authorized(r) {
		in.askForToken(w, r, wrongToken)
		return
	}
	name := cookieName(r.Host)
	http.SetCookie(w, &http.Cookie{
		Name:     name,
		Value:    cookieValue(in.config.Token, name),
		Path:     "/",
		HttpOnly: true,
		SameSite: http.SameSiteStrictMode,
	})
	query.Del("token")
	target := "/"
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// tokenIn returns the token in a pasted text: the URL that hubhook printed, or the token alone, with blanks around it.
func tokenIn(pasted string) string {
	if _, query, ok := strings.Cut(pasted, "?"); ok {
		if values, err := url.ParseQuery(strings.TrimSpace(query)); err == nil {
			return values.Get("token")
		}
	}
	return strings.TrimSpace(pasted)
}

// ask answers a request without the token.
func (in *Inspector) ask(w http.ResponseWriter, r *http.Request) {
	if len(r.CookiesNamed(cookieName(r.Host))) > 0 && r.Header.Get("Authorization") == "" {
		in.askForToken(w, r, wrongCookie)
		return
	}
	in.askForToken(w, r, noToken)
}

// askForToken answers 401: with the sign-in page if a browser wants a page, else with JSON.
func (in *Inspector) askForToken(w http.ResponseWriter, r *http.Request, why denial) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	if !wantsPage(r) {
		writeError(w, http.StatusUnauthorized, why.api)
		return
	}
	type field struct{ Name, Value string }
	data := struct {
		Style   template.CSS
		Why     string
		Wrong   bool
		Command string
		Rest    []field // of the query, which the form carries on
	}{Style: template.CSS(signInCSS), Why: why.page, Wrong: why.alarming, Command: webCommand}
	if r.URL.Path == "/" {
		query := r.URL.Query()
		for _, name := range slices.Sorted(maps.Keys(query)) {
			if name == "token" {
				continue
			}
			for _, value := range query[name] {
				data.Rest = append(data.Rest, field{name, value})
			}
		}
	}
	var page bytes.Buffer
	if err := signInTemplate.Execute(&page, data); err != nil {
		fail(w, "making the page that asks for the token", err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", signInPolicy)
	w.WriteHeader(http.StatusUnauthorized)
	w.Write(page.Bytes()) // if this fails, the client has gone away
}

// wantsPage reports whether r asks for a page to show, as a browser does for an address or a link. Requests for scripts, style sheets and
// fetched data look different.
func wantsPage(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for _, header := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(header, ",") {
			kind, parameters, err := mime.ParseMediaType(one)
			if err != nil || kind != "text/html" {
				continue
			}
			if quality, err := strconv.ParseFloat(parameters["q"], 64); err != nil || quality > 0 {
				return true
			}
		}
	}
	return false
}
