package cloudflared

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/tunnel"
)

const (
	openOp = "open the cloudflared tunnel"
	keepOp = "keep the cloudflared tunnel open"
)

// logPrefix is what stands before the message in a line of cloudflared's log: "2026-01-02T03:04:05Z ERR ".
var logPrefix = regexp.MustCompile(`^\S+ (DBG|INF|WRN|ERR|FTL|PNC) `)

// troubles are what cloudflared says when it can't go on. The first that fits counts. One is final if waiting does not help.
var troubles = []struct {
	says  *regexp.Regexp
	cause string // before what it says
	fix   string
	final bool
	hold  bool // the next try has to wait
}{
	{says: regexp.MustCompile(`(?i)error code: 1015|429 Too Many Requests`), cause: "Cloudflare gives no more quick tunnels to this network for now",
		fix: "wait some minutes, or choose another tunnel with --tunnel", hold: true},
	{says: regexp.MustCompile(`(?i)flag provided but not defined|incorrect usage|no help topic`), cause: "this cloudflared does not know how it is called",
		fix: "install a current one, see https://developers.cloudflare.com/tunnel/downloads", final: true},
	{says: regexp.MustCompile(`(?i)credentials file|origin ?cert|tunnel secret|cert\.pem`), cause: "cloudflared can't use the tunnel's credentials",
		fix: "check tunnel and credentials-file in the file of --cloudflared-config", final: true},
	{says: regexp.MustCompile(`(?i)unauthorized|tunnel not found|not a valid tunnel`), cause: "Cloudflare does not know the tunnel, or not with these credentials",
		fix: "check tunnel and credentials-file in the file of --cloudflared-config; cloudflared tunnel list names what there is", final: true},
	{says: regexp.MustCompile(`(?i)parsing YAML|unable to parse config|validat.*ingress|ingress.*rule`), cause: "cloudflared can't use its configuration",
		fix: "correct the file of --cloudflared-config; cloudflared tunnel --config FILE ingress validate says more", final: true},
	{says: regexp.MustCompile(`(?i)no such host|dial tcp|dial udp|i/o timeout|connection refused|network is unreachable|failed to dial|no recent network activity|context deadline exceeded`),
		cause: "cloudflared does not reach Cloudflare", fix: "check the network; a firewall has to let ports 443 and 7844 out"},
}

const byHand = "if this goes on, run it by hand to see more: cloudflared tunnel --url http://127.0.0.1:7860"

// explain returns why a program ended or did not come online, from the lines that it printed. what says in a clause what was seen.
func (s settings) explain(what string, c *child) (e *tunnel.Error, hold bool) {
	lines := c.said.all()
	e = &tunnel.Error{Op: openOp, Cause: what, Fix: byHand, Temporary: true}
	if !s.quick() {
		e.Fix = "if this goes on, run it by hand to see more: cloudflared tunnel --config " + s.file + " run"
	}
	for _, t := range troubles {
		at := slices.IndexFunc(lines, func(line string) bool { return complaint(line) && t.says.MatchString(line) })
		if at < 0 {
			continue
		}
		e.Cause = fmt.Sprintf("%s: %s (%s)", t.cause, s.said(lines[at]), what)
		e.Fix, e.Final, e.Refused, e.Temporary = t.fix, t.final, t.final, !t.final
		return e, t.hold
	}
	for _, line := range slices.Backward(lines) {
		if complaint(line) {
			e.Cause += ": " + s.said(line)
			break
		}
	}
	return e, false
}

// complaint reports whether the line may tell of a failure. A line without a level may: usage errors have none.
func complaint(line string) bool {
	if strings.Contains(line, "Configuration file "+os.DevNull) { // which arguments has named
		return false
	}
	level := logPrefix.FindStringSubmatch(line)
	return level == nil || level[1] == "ERR" || level[1] == "FTL" || level[1] == "PNC"
}

// said is a line of the program's for an error text.
func (s settings) said(line string) string {
	line = strings.TrimSpace(logPrefix.ReplaceAllString(line, ""))
	const enough = 300
	line = s.hide.line(line)
	if len(line) > enough {
		line = strings.ToValidUTF8(line[:enough], "") + "..."
	}
	return line
}
