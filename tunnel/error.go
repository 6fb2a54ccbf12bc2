package tunnel

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ErrNoCredential says that the provider needs a credential and none was found. It is found without any network.
var ErrNoCredential = errors.New("no credential was found")

// Error is why a tunnel could not be opened or was lost, in words for the person at the screen. No text of it contains a token.
type Error struct {
	// Op is what was tried, as in "open the ngrok tunnel".
	Op string
	// Code is the provider's own code, "ERR_NGROK_107" for example, or empty. Where the provider gave several, it is the first that
	// waiting does not mend; Cause names the others.
	Code string
	// Cause is what went wrong, in a sentence without a full stop.
	Cause string
	// Source is where the token came from that the provider was shown, "NGROK_AUTHTOKEN" for example. It is empty where the
	// provider was not reached or says that it got none.
	Source string
	// Fix is the one thing to do about it.
	Fix string
	// Temporary says that the same call may succeed later with nothing changed here: a network that was down, say.
	Temporary bool
	// Err is the error behind it, redacted. It can be nil.
	Err error
}

// Error returns what failed and why in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	if e.Code != "" {
		b.WriteString(e.Code)
		b.WriteString(": ")
	}
	b.WriteString(e.Cause)
	return b.String()
}

// Hint returns the one thing to do about it, in a line.
func (e *Error) Hint() string { return e.Fix }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

var ngrokCode = regexp.MustCompile(`(?i)ERR_NGROK_(\d+)`)

// ngrokMeaning is what one of ngrok's codes means to a user of hubhook.
type ngrokMeaning struct {
	// cause may contain one %s, for where the token came from.
	cause string
	fix   string
	// passes says that it can pass by itself: our own earlier session, not yet known to be dead, can be the reason.
	passes bool
}

const (
	ngrokTokenPage  = "https://dashboard.ngrok.com/get-started/your-authtoken"
	ngrokAgentsPage = "https://dashboard.ngrok.com/agents"
)

// ngrokMeanings has the codes that a webhook receiver meets; https://ngrok.com/docs/errors has them all.
var ngrokMeanings = map[string]ngrokMeaning{
	"ERR_NGROK_105":  {cause: "what %s has is not an ngrok authtoken", fix: "copy the authtoken again from " + ngrokTokenPage + " (an API key does not work)"},
	"ERR_NGROK_107":  {cause: "the authtoken from %s is not valid any more", fix: "copy the current one from " + ngrokTokenPage},
	"ERR_NGROK_108":  {cause: "your ngrok account has as many agents connected as it may have", fix: "stop another ngrok or hubhook; " + ngrokAgentsPage + " lists them", passes: true},
	"ERR_NGROK_121":  {cause: "ngrok does not serve clients this old any more", fix: "upgrade hubhook"},
	"ERR_NGROK_313":  {cause: "your ngrok account may not use a domain of its own choice", fix: "leave --url and NGROK_DOMAIN out to use the domain that your account has"},
	"ERR_NGROK_319":  {cause: "that domain is not reserved for your ngrok account", fix: "leave --url and NGROK_DOMAIN out, or reserve it at https://dashboard.ngrok.com/domains"},
	"ERR_NGROK_320":  {cause: "that domain belongs to another ngrok account", fix: "leave --url and NGROK_DOMAIN out to use the domain that your account has"},
	"ERR_NGROK_334":  {cause: "the public URL is already online from somewhere else", fix: "stop the other copy that uses it; https://dashboard.ngrok.com/endpoints names it", passes: true},
	"ERR_NGROK_725":  {cause: "your ngrok account's bandwidth of this month is used up", fix: "upgrade at https://dashboard.ngrok.com/billing, or let something else forward to hubhook and name it with --public-url"},
	"ERR_NGROK_727":  {cause: "your ngrok account's requests of this month are used up", fix: "upgrade at https://dashboard.ngrok.com/billing, or let something else forward to hubhook and name it with --public-url"},
	"ERR_NGROK_3200": {cause: "nothing is connected behind the public URL", fix: "check that hubhook is running", passes: true},
	"ERR_NGROK_4018": {cause: "ngrok got no authtoken", fix: "sign up at https://dashboard.ngrok.com/signup, copy the authtoken and set NGROK_AUTHTOKEN"},
}

// ngrokDocs is the page of ngrok's documentation about a code.
func ngrokDocs(code string) string {
	return "https://ngrok.com/docs/errors/" + strings.ToLower(code)
}

// codesIn returns ngrok's codes in text, in capitals, each once and in their order.
func codesIn(text string) []string {
	var codes []string
	for _, m := range ngrokCode.FindAllStringSubmatch(text, -1) {
		if code := "ERR_NGROK_" + m[1]; !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

// codeIn returns the code in text that decides, or the empty string: the first that is final, else the first that is known here, else
// the first.
func codeIn(text string) string {
	codes := codesIn(text)
	if len(codes) == 0 {
		return ""
	}
	for _, decides := range []func(string) bool{isFinal, isKnown} {
		if i := slices.IndexFunc(codes, decides); i >= 0 {
			return codes[i]
		}
	}
	return codes[0]
}

func isKnown(code string) bool {
	_, known := ngrokMeanings[code]
	return known
}

// waitHelps reports whether what the code says can pass by itself.
func waitHelps(code string) bool { return ngrokMeanings[code].passes }

// isFinal reports whether the code is one that trying again does not mend.
func isFinal(code string) bool {
	meaning, known := ngrokMeanings[code]
	return known && !meaning.passes
}

// serviceError turns what the ngrok service said, with a code in it, into an Error.
func serviceError(text string, token credential, hide redactor) *Error {
	code := codeIn(text)
	e := &Error{Op: openNgrok, Code: code, Source: token.source, Err: errors.New(hide.line(text))}
	if meaning, known := ngrokMeanings[code]; known {
		e.Cause, e.Fix, e.Temporary = meaning.causeFor(token), meaning.fix, meaning.passes
	} else {
		e.Cause = hide.line(withoutCodes(text))
		if e.Cause == "" {
			e.Cause = "the ngrok service refused"
		}
		e.Fix = "see " + ngrokDocs(code)
	}
	for _, other := range codesIn(text) {
		if other == code {
			continue
		}
		e.Cause += "; also " + other + ": "
		if meaning, known := ngrokMeanings[other]; known {
			e.Cause += meaning.causeFor(token)
		} else {
			e.Cause += "see " + ngrokDocs(other)
		}
	}
	if code == "ERR_NGROK_4018" {
		e.Source, e.Err = "", ErrNoCredential
	}
	return e
}

// causeFor is the cause where the service was shown the token.
func (m ngrokMeaning) causeFor(token credential) string {
	if strings.Contains(m.cause, "%s") {
		return fmt.Sprintf(m.cause, token.source)
	}
	return m.cause
}

// withoutCodes drops the lines of a service message that only carry its code or the page about it.
func withoutCodes(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !ngrokCode.MatchString(line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, " ")
}
