package inspector

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// loopbackHost reports whether host, of a request, is a name of this machine for itself, with any port or none. A page
// elsewhere whose name was made to resolve to 127.0.0.1 sends its own name.
func loopbackHost(host string) bool {
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		name = h
	} else {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Zone() == "" && addr.IsLoopback()
}

// sameOrigin reports whether no other site made a browser send r. It is the rule of net/http for unsafe methods, held
// for all of them: here a GET shows payloads. Pages of another port of this host are foreign too.
func (in *Inspector) sameOrigin(r *http.Request) bool {
	unsafe := *r
	unsafe.Method = http.MethodPost
	return in.crossOrigin.Check(&unsafe) == nil
}

// authorized reports whether r carries the token, in its Authorization header or as our cookie.
func (in *Inspector) authorized(r *http.Request) bool {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return in.isToken(strings.TrimSpace(token))
	}
	name := cookieName(r.Host)
	want := cookieValue(in.config.Token, name)
	for _, c := range r.CookiesNamed(name) {
		if subtle.ConstantTimeCompare([]byte(c.Value), []byte(want)) == 1 {
			return true
		}
	}
	return false
}

// isToken compares in a time that tells neither how much of token is right nor how long the right one is.
func (in *Inspector) isToken(token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(in.config.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// cookieName has the port in it, as browsers share cookies between the ports of a host, and several hubhooks may run.
func cookieName(host string) string {
	_, port, err := net.SplitHostPort(host)
	if err != nil || port == "" {
		port = "80"
	}
	return "hubhook_inspector_" + port
}

// cookieValue is made from the token but does not tell it: browsers send a cookie to every port of the host.
func cookieValue(token, name string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(name))
	return hex.EncodeToString(mac.Sum(nil))
}

// protect sets the headers of every answer and lets through what may pass: a loopback Host, no cross-site request, and,
// but for the metrics, the token.
func (in *Inspector) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")

		switch {
		case !loopbackHost(r.Host):
			writeError(w, http.StatusForbidden, "the inspector answers on this machine only: use 127.0.0.1 or localhost in the URL")
		case !in.sameOrigin(r):
			writeError(w, http.StatusForbidden, "the inspector refuses requests that another site makes: open its URL by hand")
		case r.URL.Path == metricsPath:
			next.ServeHTTP(w, r)
		case r.URL.Path == "/" && r.Method == http.MethodGet && r.URL.Query().Has("token"):
			in.signIn(w, r)
		case !in.authorized(r):
			in.ask(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
