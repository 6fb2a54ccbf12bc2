package action

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/payload"
)

func TestExplain(t *testing.T) {
	// As FastAPI and pydantic answer, tried with WebhooksServer of huggingface_hub 2.4.0.
	const refusedBucket = `{"detail":[{"type":"literal_error","loc":["body","repo","type"],"msg":"Input should be 'dataset', 'model' or 'space'","input":"bucket","ctx":{"expected":"'dataset', 'model' or 'space'"}}]}`
	const refusedVersion2 = `{"detail":[{"type":"model_attributes_type","loc":["body","event"],"msg":"Input should be a valid dictionary or object to extract fields from","input":"update"},{"type":"missing","loc":["body","repo","owner"],"msg":"Field required","input":{}}]}`
	const refusedQuery = `{"detail":[{"type":"missing","loc":["query","payload"],"msg":"Field required","input":null}]}`
	const refusedBody = `{"detail":[{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":"{}"}]}`
	for name, tc := range map[string]struct {
		seen       Seen
		cause, fix string // parts of them; no cause: there is none
	}{
		"no such path":        {Seen{Status: 404, Path: "/webhooks/x"}, "the program has no /webhooks/x", "--path"},
		"another path":        {Seen{Status: 404, Path: "/webhooks/x", Posts: []string{"/a", "/api/x"}}, "it takes POST at /a and /api/x", "--path /api/x"},
		"another endpoint":    {Seen{Status: 404, Path: "/webhooks/x", Posts: []string{"/webhooks/y"}}, "it takes POST at /webhooks/y", "the endpoint y"},
		"doubled":             {Seen{Status: 404, Path: "/webhooks/x", Posts: []string{"/webhooks/y", "/webhooks/webhooks/x"}}, "but /webhooks/webhooks/x: WebhooksServer puts", `register it as "/x"`},
		"GET only":            {Seen{Status: 405, Path: "/webhooks/x"}, "takes no POST at /webhooks/x", "--path"},
		"bucket":              {Seen{Status: 422, Body: []byte(refusedBucket), RepoType: payload.Bucket}, `refuses repo.type "bucket": it knows 'dataset', 'model' or 'space'`, "payload: dict"},
		"kernel":              {Seen{Status: 422, Body: []byte(strings.ReplaceAll(refusedBucket, "bucket", "kernel")), RepoType: "kernel"}, `refuses repo.type "kernel"`, "watch no kernel"},
		"bucket, unexplained": {Seen{Status: 422, Body: []byte("no"), RepoType: payload.Bucket}, "refuses a bucket", "watch no bucket"},
		"version 2":           {Seen{Status: 422, Body: []byte(refusedVersion2)}, `refuses event: Input should be a valid dictionary or object to extract fields from, and got "update"`, "as it is"},
		"the wrong place":     {Seen{Status: 422, Body: []byte(refusedQuery)}, "parameter payload is read from the URL", "such as dict"},
		"the whole body":      {Seen{Status: 422, Body: []byte(refusedBody)}, "refuses the body: Input should be", "as it is"},
		"a bad request":       {Seen{Status: 400, Body: []byte("unknown\n  event")}, "refuses the body with 400: unknown event", "as it is"},
		"an empty refusal":    {Seen{Status: 400}, "an empty answer", "as it is"},
		"no secret":           {Seen{Status: 401}, "wants a secret (401), and hubhook has none", "WEBHOOK_SECRET"},
		"another secret":      {Seen{Status: 403, Secret: true}, "refuses the configured secret (403)", "X-Webhook-Secret"},
		"a refusal's reason":  {Seen{Status: 403, Secret: true, Body: []byte("CSRF token missing")}, "(403: CSRF token missing)", "X-Webhook-Secret"},
		"a list":              {Seen{Status: 200, Body: []byte(`[{"error":"no such dataset"},400]`)}, "in FastAPI, return body, 400 does not set the status", "HTTPException(400)"},
		"too large":           {Seen{Status: 413}, "events of a bucket", "16mb"},
		"kept and failed":     {Seen{Status: 202, Body: []byte(`{"delivery":"01J9","state":"retrying","error":"no disk"}`)}, "its handler failed: no disk", "handler"},
		"kept":                {Seen{Status: 202, Body: []byte(`{"delivery":"01J9","state":"running"}`)}, "", ""},
		"a list of two":       {Seen{Status: 200, Body: []byte(`[1,2]`)}, "", ""},
		"a redirect": {
			Seen{Status: 307, Path: "/hook", Header: http.Header{"Location": {"http://127.0.0.1:1/hook/"}}}, "redirects /hook to http://127.0.0.1:1/hook/ (307)", "--path /hook/",
		},
		"a redirect to nowhere": {Seen{Status: 304, Path: "/hook"}, "redirects /hook (304)", "2xx"},
		"an error": {
			Seen{Status: 500, Body: []byte("Internal Server Error"), Lines: []string{"Traceback (most recent call last):", "\x1b[31mKeyError: 'headSha'\x1b[0m", "INFO: x"}},
			"the handler failed (500): KeyError: 'headSha'", "trace",
		},
		"an error of Node":     {Seen{Status: 500, Lines: []string{"TypeError: Cannot read properties of undefined (reading 'name')", "    at Server.<anonymous> (x.js:1:1)"}}, "(500): TypeError: Cannot read", "trace"},
		"an unprinted error":   {Seen{Status: 502, Body: []byte("bad gateway")}, "(502): bad gateway", "printed"},
		"port ignored":         {Seen{Port: 4321, Listens: []int{5000}}, "port 5000 instead of 4321", "PORT"},
		"ports ignored":        {Seen{Port: 4321, Listens: []int{5000, 9229}, Silent: true}, "ports 5000 and 9229 and not on 4321", "PORT"},
		"port out of reach":    {Seen{Port: 4321, Listens: []int{5000}, Silent: true}, "cannot reach it", "PORT"},
		"no port":              {Seen{Port: 4321, Silent: true}, "does not listen on any port", "PORT"},
		"import at the end":    {Seen{Exited: true, Lines: []string{"RuntimeError: can't register atexit after shutdown"}}, "interpreter already exits", "import gradio at the top"},
		"no such module":       {Seen{Exited: true, Lines: []string{"ModuleNotFoundError: No module named 'gradio'"}}, "has no module gradio", ".venv/bin/python"},
		"no such file":         {Seen{Exited: true, Lines: []string{"/usr/bin/python3.11: can't open file '/srv/missing.py': [Errno 2] No such file or directory"}}, "Python finds no file /srv/missing.py", "python app.py"},
		"no such package":      {Seen{Exited: true, Lines: []string{"Error: Cannot find module 'express'", "Require stack:"}}, "Node finds no module express", "npm install"},
		"taken port":           {Seen{Exited: true, Lines: []string{"OSError: [Errno 98] Address already in use"}}, "another program has the port", "PORT"},
		"broken code":          {Seen{Exited: true, Lines: []string{`  File "app.py", line 1`, "SyntaxError: invalid syntax"}}, "cannot be read: invalid syntax", "saved"},
		"a crash":              {Seen{Exited: true, Ready: true, Lines: []string{"panic: runtime error: index out of range"}}, "ended: panic: runtime error", "saved"},
		"an end without words": {Seen{Exited: true}, "before it took deliveries", "start a server"},
		"an end after a while": {Seen{Exited: true, Ready: true}, "", ""},
		"an end with status 0": {Seen{Exited: true, Ready: true, Well: true}, "left in the background", "in the foreground"},
		"no such command":      {Seen{Exited: true, NotStarted: `exec: "x": executable file not found in $PATH`}, "could not be started: exec", "PATH"},
		"all is well":          {Seen{Status: 200, Body: []byte("{}")}, "", ""},
		// What was printed once says nothing of an answer.
		"an old line": {Seen{Status: 200, Body: []byte("null"), Lines: []string{"SyntaxError: x"}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			advice, ok := Explain(tc.seen)
			if ok != (tc.cause != "") || !strings.Contains(advice.Cause, tc.cause) || !strings.Contains(advice.Fix, tc.fix) {
				t.Errorf("explained by %q, mended by %q; want %q and %q", advice.Cause, advice.Fix, tc.cause, tc.fix)
			}
			if ok && (advice.Fix == "" || strings.ContainsAny(advice.Cause+advice.Fix, "\n\x1b")) {
				t.Errorf("%+v cannot be shown", advice)
			}
		})
	}
}

func TestExplainRoutes(t *testing.T) {
	for name, tc := range map[string]struct {
		routes     []Route
		posts      []string
		cause, fix string
	}{
		"as it should be": {[]Route{{"x", "/webhooks/x", ByOutput}}, nil, "", ""},
		"doubled":         {[]Route{{"webhooks/x", "/webhooks/webhooks/x", ByOutput}}, nil, "is at /webhooks/webhooks/x", `register it as "/x"`},
		"one elsewhere":   {[]Route{{"hook", "/hook", ByOpenAPI}}, []string{"/hook"}, "takes POST at /hook alone", "--path /hook"},
		"by flag":         {[]Route{{"hook", "/hook", ByFlag}}, nil, "", ""},
		"two elsewhere":   {nil, []string{"/a", "/b"}, "takes POST at /a and /b", "--path /a"},
		"many elsewhere":  {nil, []string{"/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"}, "/6 and 2 more", "--path /1"},
		"nothing known":   {nil, nil, "", ""},
	} {
		advice, ok := explainRoutes(tc.routes, tc.posts)
		if ok != (tc.cause != "") || !strings.Contains(advice.Cause, tc.cause) || !strings.Contains(advice.Fix, tc.fix) {
			t.Errorf("%s: %+v", name, advice)
		}
	}
}
