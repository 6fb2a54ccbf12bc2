//go:build unix

package page_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/testing/browser"
)

// attacks are texts that run, or would change the page, wherever text becomes HTML, a URL or a template.
var attacks = []string{
	`<script>window.pwned = 1</script>`,
	`<img src=x onerror="window.pwned = 1">`,
	`"><svg onload="window.pwned = 1">`,
	`'-window.pwned=1-'`,
	`javascript:window.pwned=1`,
	"${window.pwned = 1} `${window.pwned = 1}`",
	`{{constructor.constructor("window.pwned = 1")()}}`,
	`</pre></code></textarea></title><iframe src="javascript:parent.pwned=1"></iframe>`,
	`<!--?lit$123456789$--><?lit$123456789$>{{lit-0}}`,
	`<style>*{display:none}</style><base href="http://127.0.0.1:9/">`,
}

// evil is a text with all of them.
var evil = strings.Join(attacks, " ")

// evilEvent is a payload with evil in every place where a text is allowed.
func evilEvent(scope string) string {
	text := browser.Literal(evil)
	nested := strings.Repeat(`{"deeper":`, 10) + text + strings.Repeat(`}`, 10)
	return fmt.Sprintf(`{"event":{"action":%[1]s,"scope":%[2]s},"repo":{"type":%[1]s,"name":%[1]s,"id":%[1]s,"headSha":%[1]s,
		"url":{"web":"javascript:window.pwned=1","api":"javascript:window.pwned=1"},"owner":{"id":%[1]s}},
		"discussion":{"id":%[1]s,"num":%[1]s,"title":%[1]s,"url":{"web":"JaVaScRiPt:window.pwned=1","api":"data:text/html,<script>window.pwned=1</script>"},"status":%[1]s,"author":{"id":%[1]s},"isPullRequest":false},
		"comment":{"id":%[1]s,"content":%[1]s,"author":{"id":%[1]s},"url":{"web":" javascript:window.pwned=1"}},
		"updatedRefs":[{"ref":%[1]s,"oldSha":%[1]s,"newSha":%[1]s}],"movedTo":{"name":%[1]s},"updatedConfig":{%[1]s:%[1]s},
		%[1]s:%[1]s,"__proto__":{"pwned":1},"constructor":{"prototype":{"pwned":1}},"toString":"x","hasOwnProperty":null,"nested":%[3]s,"webhook":{"id":%[1]s,"version":3}}`,
		text, browser.Literal(scope), nested)
}

// unharmed fails the test if something of an attack ran or became more than text.
func (b *tab) unharmed(where string) {
	b.t.Helper()
	if value[bool](b, `"pwned" in window || "pwned" in {}`) {
		b.t.Errorf("%s: a text ran", where)
	}
	if found := value[[]string](b, `[...document.querySelectorAll("script:not([src='/assets/app.js']), iframe, object, embed, base, img, style, [onerror], [onload], a[href^='javascript:' i], a[href^='data:' i], form[action]")]
		.map((e) => e.outerHTML.slice(0, 200))`); len(found) != 0 {
		b.t.Errorf("%s: a text became %q", where, found)
	}
}

func TestTextIsNeverMoreThanText(t *testing.T) {
	s := serve(t)
	header := []string{"User-Agent", evil, "X-Evil", evil}
	result := s.send("echo", evilEvent("repo.content"), header...)
	failed := s.send("complains", evilEvent("discussion.comment"), header...)
	scoped := s.send("train", evilEvent(evil), header...)
	unreadable := s.send("train", `{"evil":`+browser.Literal(evil)+`}`, append(header, "Webhook-Id", attacks[0])...)
	if status, _ := s.post(url.PathEscape(evil[:60]), "{}", header...); status != http.StatusNotFound {
		t.Fatalf("an endpoint of that name was answered %d", status)
	}
	if status, _ := s.post("train", evil, append(header, "X-Webhook-Secret", secret)...); status != http.StatusUnprocessableEntity {
		t.Fatalf("no JSON was answered %d", status)
	}

	b := s.open("/")
	b.wait("four rows", `document.querySelectorAll(".row[data-id]").length === 4`)
	b.waitText(".row", attacks[0])
	b.unharmed("the list")
	for id, text := range map[string]string{result: "succeeded", failed: "failed", scoped: "succeeded", unreadable: "never handed"} {
		b.follow("?delivery=" + id)
		b.waitText(".detail-body", text)
		b.waitText(".detail", attacks[0])
		b.unharmed("the delivery of " + text)
		b.click("button", "Unfold")
		b.waitText(".detail .tree", "onerror")
		b.unharmed("its tree")
		b.click("tab", "Raw")
		b.wait("the payload byte for byte", `document.querySelector("#payload-panel pre").textContent.includes("</pre></code></textarea>") || document.querySelector("#payload-panel pre").textContent.includes("\\u003c/pre")`)
		b.unharmed("its raw payload")
		b.press("e")
		b.wait("the editor", `document.querySelector("dialog[open] textarea")`)
		b.unharmed("its editor")
		b.click("button", "Close")
		b.waitNoDialog()
		b.press("c")
		b.waitText("dialog", "Or by its ID")
		b.unharmed("the choice of another one")
		b.click("button", "Cancel")
		b.waitNoDialog()
		b.click("tab", "Tree")
	}
	b.follow("?compare=" + result + "," + failed)
	b.waitText(".compare", attacks[0])
	b.waitText(".diff", "discussion.comment")
	b.unharmed("the comparison")
	b.follow("?view=refused")
	b.waitText("main", attacks[0])
	b.unharmed("the refused requests")
	b.follow("?view=status")
	b.waitText("#chart-summary", "4 deliveries")
	b.unharmed("the status")

	// Nor texts in the page's own address.
	query := url.Values{"q": {attacks[1]}, "repo": {attacks[2]}, "endpoint": {attacks[0]}, "scope": {"__proto__"}, "state": {"constructor"}, "delivery": {attacks[1]}, "view": {"__proto__"}}
	b = s.open("/?" + query.Encode())
	b.wait("the search", `document.querySelector("#search")?.value === `+browser.Literal(attacks[1]))
	b.waitText(".detail", "no such delivery")
	b.unharmed("the address")
	b.follow("?compare=" + url.QueryEscape(attacks[1]+","+attacks[2]))
	b.waitText(".compare", "no such delivery")
	b.unharmed("the address of a comparison")
	b.Forgive("status of 400", "status of 404") // no such state, no such delivery
}

// Characters that change the direction of text must not make one name look like another.
func TestTheOrderOfTextIsNotTurned(t *testing.T) {
	s := serve(t)
	id := s.send("train", strings.Replace(event("me/data"), `"private":false`, "\"note\":\"safe \u202e dangerous\"", 1))
	b := s.open("/?delivery=" + id)
	b.waitText(".tree", `safe \u202e dangerous`)
}

func TestLargeAndOddPayloads(t *testing.T) {
	s := serve(t)
	const much = 5 << 20
	long := strings.Replace(event("me/long"), `"private":false`, `"private":false,"long":"`+strings.Repeat("<b>&amp;</b> ", much/12)+`"`, 1)
	var files strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&files, `,{"action":"add","path":"data/part-%05d.parquet"}`, i)
	}
	bucket := `{"event":{"action":"update","scope":"repo.content"},"repo":{"type":"bucket","name":"me/bucket"},"updatedFiles":[` + files.String()[1:] + `]}`
	deep := strings.Replace(event("me/deep"), `"private":false`, `"private":false,"deep":`+strings.Repeat(`{"d":`, 500)+`"the bottom"`+strings.Repeat(`}`, 500), 1)
	odd := strings.Replace(event("me/odd"), `"private":false`,
		`"private":false,"big":12345678901234567890,"one":1.0,"huge":1e400,"tiny":-0.0,"minus":-0,"exact":9007199254740993,"":"no name","__proto__":"a key","a.b":{"c":1},"a":{"b.c":2},"nul":"\u0000","lone":"\ud800"`, 1)

	b := s.open("/")
	b.waitText("header", "live")
	open := func(endpoint, body, repo string) string {
		id := s.send(endpoint, body)
		b.waitState(id, "done")
		b.follow("?delivery=" + id)
		b.waitText(".detail .tree", repo)
		return id
	}
	// The page answers to keys all the while.
	answers := func() {
		b.press("?")
		b.waitText("dialog", "replay")
		b.press("\x1b")
		b.waitNoDialog()
	}

	id := open("echo", long, "me/long")
	answers()
	b.click("tab", "Raw")
	b.waitText("#payload-panel", "more characters")
	answers()
	b.press("e")
	b.wait("five megabytes in the editor", fmt.Sprintf(`document.querySelector("dialog[open] textarea")?.value.length > %d`, much))
	b.wait("the editor's verdict", `/Valid/.test(document.querySelector("#editor-verdict").innerText)`)
	b.do(b.Evaluate(`(() => { const t = document.querySelector("dialog textarea"); t.value = t.value.replace('"me/long"', '"me/edited"'); t.dispatchEvent(new Event("input", { bubbles: true })); })()`, nil))
	b.waitText("dialog .diff .plus", "me/edited")
	// Don't find the button by its name: the browser would first prepare all five megabytes for screen readers.
	b.do(b.Evaluate(`document.querySelector("dialog .primary").click()`, nil))
	edited := b.shown(id)
	b.waitText(".detail", "me/edited")
	var record api.Record
	s.get("/api/deliveries/"+edited, &record)
	if !strings.Contains(record.Body, `"me/edited"`) || len(record.Body) < much {
		t.Errorf("the edited payload has %d bytes", len(record.Body))
	}
	b.click("tab", "Tree")

	open("train", bucket, "me/bucket")
	b.waitText(".detail", "10000 files added")
	b.do(b.Evaluate(`[...document.querySelectorAll(".tree summary")].find((e) => e.innerText.includes("updatedFiles")).parentElement.open = true`, nil))
	b.waitText(".tree", "more of 9,900")
	answers()

	open("train", deep, "me/deep")
	b.wait("fifty of the 500 levels unfolded", `(() => {
		const folded = [...document.querySelectorAll(".tree details:not([open])")].at(-1);
		if (folded) folded.open = true;
		return document.querySelectorAll(".tree details[open]").length > 50;
	})()`)
	b.click("tab", "Raw")
	b.waitText("#payload-panel", "the bottom")
	answers()
	b.click("tab", "Tree")

	open("echo", odd, "me/odd")
	for _, text := range []string{"12345678901234567890", "one: 1.0", "1e400", "-0.0", "minus: -0", "9007199254740993", `"no name"`, `__proto__: "a key"`, `\u0000`, `\ud800`} {
		b.waitText(".tree", text)
	}
	b.wait("the numbers of the result", `["12345678901234567890", ": 1.0,", "1e400", "9007199254740993"].every((text) => document.querySelector('[aria-label="Result of attempt 1"]').textContent.includes(text))`)
	b.unharmed("odd payloads")
}

func TestHTMLFromStringsIsRefusedByTheBrowserItself(t *testing.T) {
	s := serve(t)
	b := s.open("/")
	b.waitText("header", "live")
	for _, attack := range []struct{ do, refusal string }{
		{`document.body.innerHTML = "<b>x</b>"`, "TrustedHTML"},
		{`document.querySelector("main").insertAdjacentHTML("beforeend", "<img>")`, "TrustedHTML"},
		{`document.write("<b>x</b>")`, "TrustedHTML"},
		{`new DOMParser().parseFromString("<b>x</b>", "text/html")`, "TrustedHTML"},
		{`document.createElement("script").text = "1"`, "TrustedScript"},
		{`document.createElement("script").src = "/assets/app.js"`, "TrustedScriptURL"},
		{`trustedTypes.createPolicy("another", {})`, "TypeError"},
		{`eval("1")`, "EvalError"},
		{`await fetch("http://127.0.0.1:9/")`, "Failed to fetch"},
	} {
		if got := value[string](b, `(async () => { try { `+attack.do+` } catch (e) { return String(e); } return "it was done"; })()`); !strings.Contains(got, attack.refusal) {
			t.Errorf("%s: %s; want it refused with %s", attack.do, got, attack.refusal)
		}
	}
	for _, r := range b.Requests() {
		if strings.HasPrefix(r, "http://127.0.0.1:9/") {
			t.Errorf("a request went to %s", r)
		}
	}
	if b.Forgive("Content Security Policy", "Trusted") == 0 {
		t.Error("the browser told nothing of what it refused")
	}
}

// The browser is signed in to the inspector, and has a page of another site open.
func TestAnotherOriginGetsNothing(t *testing.T) {
	s := serve(t)
	id := s.send("slow", event("me/private-data"))
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>elsewhere</title><link rel="icon" href="data:,"><body></body></html>`)
	}))
	t.Cleanup(elsewhere.Close)

	for _, origin := range []string{elsewhere.URL, strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)} {
		b := s.open("/")
		b.waitRows(id)
		b.do(b.Open(origin + "/"))
		target, _ := json.Marshal(map[string]string{"private": s.private, "id": id})
		got := value[[]string](b, `(async ({ private: origin, id }) => {
			const got = [];
			const heard = (what, text) => { if (text) got.push(what + ": " + text.slice(0, 200)); };
			const json = { "Content-Type": "application/json" };
			for (const path of ["/", "/api/status", "/api/deliveries", "/api/deliveries/" + id, "/assets/app.js"]) {
				for (const options of [{}, { credentials: "include" }, { credentials: "include", mode: "no-cors" }]) {
					await fetch(origin + path, options).then((r) => r.text()).then((text) => heard("GET " + path, text), () => {});
				}
			}
			for (const [path, body] of [["/api/deliveries/" + id + "/replay", "{}"], ["/api/deliveries/" + id + "/discard", ""], ["/api/trigger", '{"endpoint":"train","scope":"repo.content"}'], ["/api/payload", '{"body":{}}']]) {
				for (const options of [{ headers: json }, {}, { mode: "no-cors" }, { headers: { "Content-Type": "text/plain" } }]) {
					await fetch(origin + path, { method: "POST", body, credentials: "include", ...options }).then((r) => r.text()).then((text) => heard("POST " + path, text), () => {});
				}
				const form = document.createElement("form");
				Object.assign(form, { method: "POST", action: origin + path, target: "sink", enctype: "text/plain" });
				const sink = document.createElement("iframe");
				sink.name = "sink";
				document.body.append(sink, form);
				await new Promise((done) => { sink.onload = done; form.submit(); setTimeout(done, 3000); });
				form.remove();
				sink.remove();
			}
			const frame = document.createElement("iframe");
			frame.src = origin + "/";
			await new Promise((done) => { frame.onload = done; document.body.append(frame); setTimeout(done, 3000); });
			try { heard("the frame", frame.contentDocument?.body?.innerText); } catch {}
			try { heard("the frame's window", frame.contentWindow.location.href); } catch {}
			const script = document.createElement("script");
			script.src = origin + "/assets/store.js";
			script.type = "module";
			heard("a module", await new Promise((done) => { script.onload = () => done("loaded"); script.onerror = () => done(""); document.body.append(script); }));
			heard("an image", await new Promise((done) => { const i = new Image(); i.onload = () => done("loaded"); i.onerror = () => done(""); i.src = origin + "/assets/mark.svg"; }));
			heard("a stream", await new Promise((done) => { const e = new EventSource(origin + "/api/stream", { withCredentials: true }); e.onopen = () => done("opened"); e.onerror = () => { e.close(); done(""); }; }));
			const opened = window.open(origin + "/");
			if (opened) {
				await new Promise((done) => setTimeout(done, 500));
				try { heard("the window", opened.document.body.innerText); } catch {}
				opened.close();
			}
			return got;
		})(`+string(target)+`)`)
		if len(got) != 0 {
			t.Errorf("%s got %q", origin, got)
		}
		var list api.List
		s.get("/api/deliveries", &list)
		if len(list.Deliveries) != 1 || list.Deliveries[0].State != "running" {
			t.Errorf("%s did something: %+v", origin, list.Deliveries)
		}
		b.Forgive("")
		b.origins = append(b.origins, origin)
		b.finish()
	}
}
