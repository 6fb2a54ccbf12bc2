package cloudflared

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"

	"github.com/hubhook/hubhook/internal/text"
)

const hidden = "(hidden)"

var (
	// tokens of Cloudflare's are base64 of JSON objects.
	tokens = regexp.MustCompile(`eyJ[A-Za-z0-9+/_=-]{8,}(\.[A-Za-z0-9+/_=-]+)*`)
	// assigned finds the values of settings that are secret, in logs and in JSON.
	assigned = regexp.MustCompile(`(?i)((?:token|secret|password|credentials-contents|authorization)["']?\s*[:=]\s*(?:bearer\s+)?["']?)[^\s"',}\]]+`)
	// passwords in URLs.
	passwords = regexp.MustCompile(`(://[^\s/:@]*:)[^\s/@]+@`)
)

// redactor removes secrets from what the program says.
type redactor struct {
	secrets []string
	known   *text.Redactor
}

func newRedactor(secrets ...string) redactor {
	return redactor{secrets, text.NewRedactor(hidden, secrets...)}
}

func (r redactor) with(secret string) redactor {
	return newRedactor(append(r.secrets[:len(r.secrets):len(r.secrets)], secret)...)
}

// line is text in one line without secrets.
func (r redactor) line(s string) string {
	if r.known != nil {
		s = r.known.Redact(s)
	}
	s = tokens.ReplaceAllString(s, hidden)
	s = assigned.ReplaceAllString(s, "${1}"+hidden)
	s = passwords.ReplaceAllString(s, "${1}"+hidden+"@")
	return strings.Join(strings.Fields(s), " ")
}

// secretOf is the secret in a tunnel's credentials file, "" where there is none. The program says itself what is wrong with the file.
func secretOf(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var credentials struct{ TunnelSecret string }
	if json.Unmarshal(content, &credentials) != nil {
		return ""
	}
	return credentials.TunnelSecret
}
