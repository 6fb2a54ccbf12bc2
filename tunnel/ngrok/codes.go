package ngrok

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/tunnel"
)

var codePattern = regexp.MustCompile(`(?i)ERR_NGROK_(\d+)`)

// meaning is what one of ngrok's codes means to a user of hubhook.
type meaning struct {
	// cause may contain one %s, for where the token came from.
	cause string
	fix   string
	// passes says that it can pass by itself: our own earlier session, not yet known to be dead, can be the reason.
	passes bool
}

const (
	tokenPage  = "https://dashboard.ngrok.com/get-started/your-authtoken"
	agentsPage = "https://dashboard.ngrok.com/agents"
)

// meanings has the codes that a webhook receiver meets; https://ngrok.com/docs/errors has them all.
var meanings = map[string]meaning{
	"ERR_NGROK_105":  {cause: "what %s has is not an ngrok authtoken", fix: "copy the authtoken again from " + tokenPage + " (an API key does not work)"},
	"ERR_NGROK_107":  {cause: "the authtoken from %s is not valid any more", fix: "copy the current one from " + tokenPage},
	"ERR_NGROK_108":  {cause: "your ngrok account has as many agents connected as it may have", fix: "stop another ngrok or hubhook; " + agentsPage + " lists them", passes: true},
	"ERR_NGROK_121":  {cause: "ngrok does not serve clients this old any more", fix: "upgrade hubhook"},
	"ERR_NGROK_313":  {cause: "your ngrok account may not use a domain of its own choice", fix: "leave --url and NGROK_DOMAIN out to use the domain that your account has"},
	"ERR_NGROK_319":  {cause: "that domain is not reserved for your ngrok account", fix: "leave --url and NGROK_DOMAIN out, or reserve it at https://dashboard.ngrok.com/domains"},
	"ERR_NGROK_320":  {cause: "that domain belongs to another ngrok account", fix: "leave --url and NGROK_DOMAIN out to use the domain that your account has"},
	"ERR_NGROK_334":  {cause: "the public URL is already online from somewhere else", fix: "stop the other copy that uses it; https://dashboard.ngrok.com/endpoints names it", passes: true},
	"ERR_NGROK_725":  {cause: "your ngrok account's bandwidth of this month is used up", fix: "upgrade at https://dashboard.ngrok.com/billing, choose another tunnel with --ssh or --tunnel cloudflared, or let something else forward to hubhook and name it with --public-url"},
	"ERR_NGROK_727":  {cause: "your ngrok account's requests of this month are used up", fix: "upgrade at https://dashboard.ngrok.com/billing, choose another tunnel with --ssh or --tunnel cloudflared, or let something else forward to hubhook and name it with --public-url"},
	"ERR_NGROK_3200": {cause: "nothing is connected behind the public URL", fix: "check that hubhook is running", passes: true},
	"ERR_NGROK_4018": {cause: "ngrok got no authtoken", fix: "sign up at https://dashboard.ngrok.com/signup, copy the authtoken and set NGROK_AUTHTOKEN"},
}

// docsPage is the page of ngrok's documentation about a code.
func docsPage(code string) string {
	return "https://ngrok.com/docs/errors/" + strings.ToLower(code)
}

// codesIn returns ngrok's codes in text, in capitals, each once and in their order.
func codesIn(text string) []string {
	var codes []string
	for _, m := range codePattern.FindAllStringSubmatch(text, -1) {
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
	_, known := meanings[code]
	return known
}

// isFinal reports whether the code is one that trying again does not fix.
func isFinal(code string) bool {
	known, ok := meanings[code]
	return ok && !known.passes
}

// serviceError turns what the ngrok service said, with a code in it, into an error for the user.
func serviceError(text string, token credential, hide redactor) *tunnel.Error {
	code := codeIn(text)
	e := &tunnel.Error{Op: openAct, Code: code, Source: token.source, Refused: true, Final: isFinal(code), Err: errors.New(hide.line(text))}
	if known, ok := meanings[code]; ok {
		e.Cause, e.Fix, e.Temporary = known.causeFor(token), known.fix, known.passes
	} else {
		e.Cause = hide.line(withoutCodes(text))
		if e.Cause == "" {
			e.Cause = "the ngrok service refused"
		}
		e.Fix = "see " + docsPage(code)
	}
	for _, other := range codesIn(text) {
		if other == code {
			continue
		}
		e.Cause += "; also " + other + ": "
		if known, ok := meanings[other]; ok {
			e.Cause += known.causeFor(token)
		} else {
			e.Cause += "see " + docsPage(other)
		}
	}
	if code == "ERR_NGROK_4018" {
		e.Source, e.Err = "", tunnel.ErrNoCredential
	}
	return e
}

// causeFor is the cause where the service was shown the token.
func (m meaning) causeFor(token credential) string {
	if strings.Contains(m.cause, "%s") {
		return fmt.Sprintf(m.cause, token.source)
	}
	return m.cause
}

// withoutCodes drops the lines of a service message that only carry its code or the page about it.
func withoutCodes(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !codePattern.MatchString(line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, " ")
}
