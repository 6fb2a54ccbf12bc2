package ssh

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/hubhook/hubhook/internal/text"
)

var (
	escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_a-z])`)
	// What services say before a URL: sish "HTTPS: ", serveo "Forwarding HTTP traffic from ", pinggy nothing, some a dash.
	said = regexp.MustCompile(`^(?:(HTTPS?)\s*:\s+|(Forwarding HTTP traffic from )|[-*]\s+)?(https?://\S+)$`)
	// localhost.run: "NAME tunneled with tls termination, https://NAME".
	tunneled = regexp.MustCompile(`^(\S+) tunneled with tls termination(?:, (https://\S+))?`)
	// secret finds what no error may repeat: sish gives tokens of its console as queries.
	secret = regexp.MustCompile(`(?i)(\?|authorization\W+|token\W+|password\W+)\S+`)
)

// clean is foreign text in one line, without secrets and without anything that a terminal could obey.
func clean(s string) string {
	return text.OneLine(secret.ReplaceAllString(escapes.ReplaceAllString(s, ""), "${1}(hidden)"), 300)
}

// announcement is a line of a service that says a URL.
type announcement struct {
	url string
	// lasting says that the URL is the session's only one: another line of this kind is one more way to the same place. Without it, another
	// line says that the URL has changed.
	lasting bool
}

// announced finds the URL that a line says is the tunnel's, and the refusal in words for programs.
func announced(line string) (a announcement, refusal string, found bool) {
	line = strings.TrimSpace(escapes.ReplaceAllString(line, ""))
	if strings.HasPrefix(line, "{") {
		return announcedJSON(line)
	}
	if m := said.FindStringSubmatch(line); m != nil {
		origin, ok := originOf(m[3])
		return announcement{url: origin, lasting: m[1] == "" && m[2] == ""}, "", ok
	}
	if m := tunneled.FindStringSubmatch(line); m != nil {
		link := m[2]
		if link == "" {
			link = "https://" + strings.TrimPrefix(m[1], "https://")
		}
		origin, ok := originOf(link)
		return announcement{url: origin}, "", ok
	}
	return a, "", false
}

// announcedJSON reads what localhost.run says with --output json, in both forms that it has had: with an event "tcpip-forward", and as a
// CloudEvent with a type.
func announcedJSON(line string) (a announcement, refusal string, found bool) {
	var event struct {
		Event     string `json:"event"`
		AuthzCode string `json:"authz_code"`
		Status    string `json:"status"`
		Address   string `json:"address"`
		Message   string `json:"message"`
		Type      string `json:"type"`
		Data      any    `json:"data"`
	}
	if json.Unmarshal([]byte(line), &event) != nil {
		return a, "", false
	}
	words := event.Message
	switch {
	case event.Event == "tcpip-forward":
		if event.Address == "" || event.AuthzCode != "" && event.AuthzCode != "OK" || event.Status != "" && event.Status != "success" {
			return a, firstLine(words), false
		}
	case strings.HasSuffix(event.Type, "tcpip_forward.register.accepted"):
		words, _ = event.Data.(string)
	case strings.HasSuffix(event.Type, "tcpip_forward.register.rejected"):
		words, _ = event.Data.(string)
		return a, firstLine(words), false
	default:
		return a, "", false
	}
	if event.Address != "" {
		origin, ok := originOf("https://" + event.Address)
		return announcement{url: origin}, "", ok
	}
	if m := tunneled.FindStringSubmatch(firstLine(words)); m != nil {
		return announced(firstLine(words))
	}
	return a, "", false
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}

// longestLine bounds a line of a service: localhost.run puts a picture for telephones into one.
const longestLine = 64 << 10

// readLines calls line for each line of r, without those that are too long.
func readLines(r io.Reader, line func(string)) {
	in := bufio.NewReaderSize(r, longestLine)
	for {
		text, err := in.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			if _, err = in.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
				text = nil
			}
		}
		if len(text) > 0 {
			line(string(text))
		}
		if err != nil {
			return
		}
	}
}

// lastWords keeps the last lines that a server said, for an error.
type lastWords struct {
	mu    sync.Mutex
	lines []string
}

func (w *lastWords) add(line string) {
	if strings.HasPrefix(strings.TrimSpace(line), "{") {
		return
	}
	if line = clean(line); line == "" || !strings.ContainsAny(line, "abcdefghijklmnopqrstuvwxyz") {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lines = append(w.lines, line); len(w.lines) > 3 {
		w.lines = w.lines[1:]
	}
}

// forget drops what was said so far.
func (w *lastWords) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = nil
}

// String is empty where nothing was said.
func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, " / ")
}
