package action

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/payload"
)

// Seen is what is known of something that went wrong between hubhook and a program. Only what was seen is set.
type Seen struct {
	Status   int         // of the program's answer, 0 for none
	Header   http.Header // of the answer
	Body     []byte      // of the answer
	Path     string      // where the delivery was sent
	Posts    []string    // the program's own paths that take POST
	RepoType payload.RepoType
	Event    payload.Event
	Secret   bool // the delivery had the configured secret

	Lines      []string // what the program printed last
	Exited     bool     // by itself
	NotStarted string   // why the system could not start it
	Ready      bool     // it took deliveries before
	Well       bool     // it ended with status 0
	Port       int      // the one that PORT named
	Listens    []int    // ports on which it listens instead
	Silent     bool     // it does not listen where deliveries can reach it
}

// Explain returns why it went wrong and what to do about it, and false if the cause is not known.
func Explain(s Seen) (Advice, bool) {
	for _, explain := range []func(Seen) (Advice, bool){
		explainPort, explainLines, explainNotFound, explainRefused, explainSecret, explainTooLarge, explainTuple, explainKept, explainRedirect, explainError, explainExit,
	} {
		if advice, ok := explain(s); ok {
			return Advice{Cause: oneLine(advice.Cause, 2*maxShown), Fix: oneLine(advice.Fix, 2*maxShown)}, true // with text of the program in it
		}
	}
	return Advice{}, false
}

func advise(fix, cause string, args ...any) (Advice, bool) {
	return Advice{Cause: fmt.Sprintf(cause, args...), Fix: fix}, true
}

// explainPort knows programs that do not listen on PORT.
func explainPort(s Seen) (Advice, bool) {
	const fix = `take the port from the environment: PORT (in Python, int(os.environ.get("PORT", 8000)))`
	switch {
	case len(s.Listens) == 1 && !s.Silent:
		return advise(fix, "the program listens on port %d instead of %d, which PORT names: deliveries go there, but two copies of it cannot run at once", s.Listens[0], s.Port)
	case len(s.Listens) == 1:
		return advise(fix, "the program listens on port %d, where this machine cannot reach it by 127.0.0.1, and not on %d, which PORT names", s.Listens[0], s.Port)
	case len(s.Listens) > 1:
		return advise(fix, "the program listens on ports %s and not on %d, which PORT names: deliveries wait", listed(s.Listens), s.Port)
	case s.Silent:
		return advise("start an HTTP server on the port in the environment variable PORT", "the program does not listen on any port yet, nor on %d, which PORT names: deliveries wait", s.Port)
	}
	return Advice{}, false
}

// printedCauses are what runtimes print when they give up, the more telling first.
var printedCauses = []struct {
	pattern    *regexp.Regexp
	cause, fix string
}{
	{
		regexp.MustCompile(`can't register atexit after shutdown`),
		"gradio is imported while the interpreter already exits, which Python 3.9 and later refuse",
		"write import gradio at the top of the program",
	},
	{
		regexp.MustCompile(`(?m)ModuleNotFoundError: No module named '([^']+)'`),
		"the Python that runs the program has no module $1",
		"install it there, or start the Python of your virtual environment: hubhook dev -- .venv/bin/python ...",
	},
	{regexp.MustCompile(`python[^ :]*: can't open file '([^']+)'`), "Python finds no file $1", "name the program's file after --, from this directory on: hubhook dev -- python app.py"},
	{regexp.MustCompile(`Error: Cannot find module '([^']+)'`), "Node finds no module $1", "run npm install, or correct its name"},
	{
		regexp.MustCompile(`(?i)(?:address already in use|EADDRINUSE|Cannot find empty port)\D*(\d{2,5})?`),
		"another program has the port",
		`end the other one, or take the port from the environment: PORT`,
	},
	{regexp.MustCompile(`(?m)^\s*(SyntaxError|IndentationError|TabError): (.+)$`), "the program's code cannot be read: $2", "correct the line above it: the program starts again when the file is saved"},
}

// explainLines knows what runtimes print.
func explainLines(s Seen) (Advice, bool) {
	if s.Status != 0 || len(s.Lines) == 0 {
		return Advice{}, false
	}
	text := escapes.ReplaceAllString(strings.Join(s.Lines, "\n"), "")
	for _, c := range printedCauses {
		if m := c.pattern.FindStringSubmatchIndex(text); m != nil {
			return Advice{Cause: string(c.pattern.ExpandString(nil, c.cause, text, m)), Fix: c.fix}, true
		}
	}
	return Advice{}, false
}

// explainNotFound knows paths that the program does not have.
func explainNotFound(s Seen) (Advice, bool) {
	if s.Status != http.StatusNotFound && s.Status != http.StatusMethodNotAllowed {
		return Advice{}, false
	}
	what := fmt.Sprintf("the program has no %s", s.Path)
	if s.Status == http.StatusMethodNotAllowed {
		what = fmt.Sprintf("the program takes no POST at %s", s.Path)
	}
	doubled := webhooksPrefix + strings.TrimPrefix(s.Path, "/")
	switch {
	case slices.Contains(s.Posts, doubled):
		name := strings.TrimPrefix(s.Path, webhooksPrefix)
		return advise(fmt.Sprintf("register it as %q; until then its endpoint is %s", "/"+name, strings.TrimPrefix(doubled, webhooksPrefix)),
			"%s, but %s: WebhooksServer puts /webhooks/ before every path", what, doubled)
	case len(s.Posts) == 0:
		return advise("say where it takes deliveries: --path /hook", "%s", what)
	}
	near := nearestPath(s.Path, s.Posts)
	if strings.HasPrefix(near, webhooksPrefix) {
		return advise(fmt.Sprintf("send deliveries to the endpoint %s", routeName(near)), "%s; it takes POST at %s", what, listed(s.Posts))
	}
	return advise("say where it takes deliveries: --path "+near, "%s; it takes POST at %s", what, listed(s.Posts))
}

// nearestPath returns the path with the same last element, or else the first.
func nearestPath(want string, paths []string) string {
	for _, p := range paths {
		if path.Base(p) == path.Base(want) {
			return p
		}
	}
	return paths[0]
}

// refusal is how FastAPI says that a body does not fit the handler's types.
type refusal struct {
	Detail []struct {
		Loc   []any           `json:"loc"`
		Msg   string          `json:"msg"`
		Input json.RawMessage `json:"input"`
	} `json:"detail"`
}

// explainRefused knows handlers whose types are narrower than what the Hub sends.
func explainRefused(s Seen) (Advice, bool) {
	if s.Status != http.StatusUnprocessableEntity && s.Status != http.StatusBadRequest {
		return Advice{}, false
	}
	const open = "take the body as it is (payload = await request.json() in FastAPI), or type that field as str and ignore what you do not know"
	var r refusal
	if json.Unmarshal(s.Body, &r) == nil && len(r.Detail) > 0 {
		first := r.Detail[0]
		var at []string
		for _, l := range first.Loc {
			at = append(at, fmt.Sprint(l))
		}
		if len(at) > 0 && at[0] == "query" {
			return advise("give it a type that FastAPI reads from the body, such as dict or WebhookPayload",
				"the handler's parameter %s is read from the URL, not from the body", strings.Join(at[1:], "."))
		}
		if len(at) > 1 && at[0] == "body" {
			field := strings.Join(at[1:], ".")
			if field == "repo.type" && (s.RepoType == payload.Bucket || string(s.RepoType) == "kernel") {
				return advise("take the body as it is (payload: dict), or watch no "+string(s.RepoType)+" with this webhook",
					"the program's payload model refuses repo.type %q: it knows %s (WebhookPayload of huggingface_hub does so)", s.RepoType, strings.TrimPrefix(first.Msg, "Input should be "))
			}
			return advise(open, "the program's payload model refuses %s: %s", field, got(first.Msg, first.Input))
		}
		if len(at) == 1 && at[0] == "body" {
			return advise(open, "the program's payload model refuses the body: %s", first.Msg)
		}
	}
	if s.Status == http.StatusUnprocessableEntity && (s.RepoType == payload.Bucket || string(s.RepoType) == "kernel") {
		return advise("take the body as it is, or watch no "+string(s.RepoType)+" with this webhook", "the program's payload model refuses a %s", s.RepoType)
	}
	return advise(open, "the program refuses the body with %d: %s", s.Status, excerpt(s.Body))
}

func got(msg string, input json.RawMessage) string {
	if len(input) == 0 || len(input) > 60 {
		return msg
	}
	return fmt.Sprintf("%s, and got %s", msg, input)
}

// explainSecret knows programs that expect another secret.
func explainSecret(s Seen) (Advice, bool) {
	if s.Status != http.StatusUnauthorized && s.Status != http.StatusForbidden {
		return Advice{}, false
	}
	answer := strconv.Itoa(s.Status)
	if len(s.Body) > 0 {
		answer += ": " + excerpt(s.Body) // it may refuse for another reason
	}
	if !s.Secret {
		return advise("set WEBHOOK_SECRET for hubhook: the program gets the same", "the program wants a secret (%s), and hubhook has none to send", answer)
	}
	return advise("compare the header X-Webhook-Secret with the environment variable WEBHOOK_SECRET", "the program refuses the configured secret (%s): it expects another", answer)
}

// explainTuple knows what becomes of Flask's `return body, status` in FastAPI: 200 with a list.
func explainTuple(s Seen) (Advice, bool) {
	if s.Status < 200 || s.Status > 299 {
		return Advice{}, false
	}
	var list []json.RawMessage
	if json.Unmarshal(s.Body, &list) != nil || len(list) != 2 {
		return Advice{}, false
	}
	status, err := strconv.Atoi(string(bytes.TrimSpace(list[1])))
	if err != nil || status < 300 || status > 599 {
		return Advice{}, false
	}
	return advise(fmt.Sprintf("raise HTTPException(%d), or return JSONResponse(body, status_code=%d)", status, status),
		"the program answers %d with a list that ends in %d: in FastAPI, return body, %d does not set the status", s.Status, status, status)
}

// explainTooLarge knows limits that are below what a bucket's events need: 10,000 files are 1.5 MB.
func explainTooLarge(s Seen) (Advice, bool) {
	if s.Status != http.StatusRequestEntityTooLarge {
		return Advice{}, false
	}
	return advise(`allow bodies of several MB: in Express, express.json({ limit: "16mb" }); in Flask, MAX_CONTENT_LENGTH`,
		"the body is too large for the program (413): events of a bucket list up to 10,000 files, 1.5 MB")
}

// explainKept knows programs that are written with hubhook: they answer 2xx for a delivery that they keep, though its handler has failed.
func explainKept(s Seen) (Advice, bool) {
	if s.Status < 200 || s.Status > 299 {
		return Advice{}, false
	}
	var kept struct {
		Delivery string `json:"delivery"`
		State    string `json:"state"`
		Error    string `json:"error"`
	}
	if json.Unmarshal(s.Body, &kept) != nil || kept.Delivery == "" || kept.State != "dead" && kept.State != "retrying" {
		return Advice{}, false
	}
	return advise("see the program's own lines for it, and fix the handler",
		"the program has taken the delivery, and its handler failed: %s (its own delivery %s is %s)", kept.Error, kept.Delivery, kept.State)
}

// explainRedirect knows that the Hub counts a redirect as a failure.
func explainRedirect(s Seen) (Advice, bool) {
	if s.Status < 300 || s.Status > 399 {
		return Advice{}, false
	}
	to := s.Header.Get("Location")
	if to == "" {
		return advise("answer 2xx at that path itself", "the program redirects %s (%d), and the Hub counts only 2xx", s.Path, s.Status)
	}
	return advise("serve the path without the redirect (mind the slash at its end), or send there: --path "+pathOf(to),
		"the program redirects %s to %s (%d), and the Hub counts only 2xx", s.Path, to, s.Status)
}

func pathOf(location string) string {
	if i := strings.Index(location, "://"); i >= 0 {
		location = location[i+3:]
		if i = strings.IndexByte(location, '/'); i < 0 {
			return "/"
		}
		location = location[i:]
	}
	return location
}

// errorLine is how runtimes name what was raised: "KeyError: 'sha'", "pkg.Custom: text", "TypeError: x is not a function".
var errorLine = regexp.MustCompile(`(?m)^\s*((?:[A-Za-z_][\w.]*)?(?:Error|Exception|Interrupt)(?::.*)?|panic: .+)$`)

// explainError knows that a handler which fails prints why.
func explainError(s Seen) (Advice, bool) {
	if s.Status < 500 {
		return Advice{}, false
	}
	if line := lastError(s.Lines); line != "" {
		return advise("correct the line that the trace names: what the program printed stands with the delivery", "the handler failed (%d): %s", s.Status, line)
	}
	return advise("see what the program printed", "the handler failed (%d): %s", s.Status, excerpt(s.Body))
}

// explainExit knows programs that do not stay.
func explainExit(s Seen) (Advice, bool) {
	if !s.Exited {
		return Advice{}, false
	}
	if s.NotStarted != "" {
		return advise("name the file to run after --, one that is on PATH or begins with ./, and its arguments; no shell reads them",
			"the command could not be started: %s", s.NotStarted)
	}
	if line := lastError(s.Lines); line != "" {
		return advise("correct it: the program starts again when the file is saved", "the program ended: %s", line)
	}
	if !s.Ready {
		return advise("does it start a server, and wait for it?", "the program ended before it took deliveries")
	}
	if s.Well {
		return advise("does it go to the background? keep its server in the foreground", "what it may have left in the background was ended too")
	}
	return Advice{}, false
}

func lastError(lines []string) string {
	all := errorLine.FindAllString(escapes.ReplaceAllString(strings.Join(lines, "\n"), ""), -1)
	if len(all) == 0 {
		return ""
	}
	return strings.TrimSpace(all[len(all)-1])
}

// explainRoutes knows what to say of a program's endpoints once they are known.
func explainRoutes(routes []Route, posts []string) (Advice, bool) {
	for _, route := range routes {
		if name, ok := strings.CutPrefix(route.Name, "webhooks/"); ok && strings.HasPrefix(route.Path, webhooksPrefix+"webhooks/") {
			return advise(fmt.Sprintf("register it as %q", "/"+name),
				"the endpoint %s is at %s: WebhooksServer puts /webhooks/ before every path", route.Name, route.Path)
		}
		if !strings.HasPrefix(route.Path, webhooksPrefix) && route.By != ByFlag {
			return advise(fmt.Sprintf("nothing is wrong; --path %s leaves the search out", route.Path),
				"the program takes POST at %s alone, by %s: deliveries to /webhooks/%s go there", route.Path, route.By, route.Name)
		}
	}
	if len(routes) == 0 && len(posts) > 1 {
		return advise("say which takes deliveries: --path "+posts[0], "the program takes POST at %s, and none is below /webhooks/", listed(posts))
	}
	return Advice{}, false
}

// listed joins values as a sentence has them, and counts those beyond a few.
func listed[T any](values []T) string {
	const most = 6
	var texts []string
	for _, v := range values[:min(len(values), most)] {
		texts = append(texts, fmt.Sprint(v))
	}
	if more := len(values) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	if len(texts) < 2 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:len(texts)-1], ", ") + " and " + texts[len(texts)-1]
}

// excerpt is the beginning of an answer's body on one line.
func excerpt(body []byte) string {
	const most = 160
	if text := oneLine(string(body[:min(len(body), 4*most)]), most); text != "" {
		return text
	}
	return "an empty answer"
}
