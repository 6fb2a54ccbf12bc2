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

// loopbackHost reports whether a request's host is a loopback name of this machine, with any port or none. A foreign page whose name
// resolves to 127.0.0.1 (DNS rebinding) sends its own name, so it fails here.
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

// sameOrigin reports whether no other site made a browser send r. It applies the rule of net/http for unsafe methods to all methods,
// because here a GET shows payloads. Pages of another port of this host are foreign too.
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

// isToken compares in constant time, so that the time reveals neither how much of token is right nor how long the right token is.
func (in *Inspector) isToken(token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(in.config.Token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// cookieName contains the port, because browsers share cookies between the ports of a host, and several hubhooks may run.
func cookieName(host string) string {
	_, port, err := net.SplitHostPort(host)
	if err != nil || port == "" {
		port = "80"
	}
	return "hubhook_inspector_" + port
}

// cookieValue is derived from the token and does not reveal it, because browsers send a cookie to every port of the host.
func cookieValue(token, name string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(name))
	return hex.EncodeToString(mac.Sum(nil))
}

// protect sets the headers of every answer. It lets a request through if its Host is loopback, no other site made it, and it carries
// the token. Metrics need no token.
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
