package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/hub/hubtest"
	"github.com/hubhook/hubhook/payload"
)

// shown bounds the rows of the page's lists.
const shown = 100

// maxShown bounds what the page shows of a body, in bytes.
const maxShown = 16 << 10

//go:embed page
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"short": func(id string) string { return id[:min(8, len(id))] },
}).ParseFS(files, "page/*.html"))

// page serves the Hub's API and the page about it.
type page struct {
	hub       *hubtest.Hub
	user, url string
}

// newPage returns the handler of the whole program. Requests that other sites make a browser send are refused.
func newPage(hub *hubtest.Hub, user, url string) http.Handler {
	p := &page{hub, user, url}
	static, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the directory is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", hub)
	mux.Handle("GET /static/", http.StripPrefix("/static", http.FileServerFS(static)))
	mux.HandleFunc("POST /do", p.do)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "this is a page", http.StatusMethodNotAllowed)
			return
		}
		p.show(w, r.URL.Path, nil)
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

// item is a repo or a bucket on the page.
type item struct {
	Type    payload.RepoType
	Name    string
	Path    string // of its page
	Private bool
	Repo    *hubtest.Repo
	Bucket  *hubtest.Bucket
}

// Key names the item in a form.
func (i item) Key() string { return string(i.Type) + ":" + i.Name }

// RepoFiles and BucketFiles are the first files.
func (i item) RepoFiles() []hubtest.RepoFile { return i.Repo.Files("main", shown) }

// BucketFiles returns the first files of a bucket.
func (i item) BucketFiles() []hubtest.BucketFile {
	all := i.Bucket.Files()
	return all[:min(shown, len(all))]
}

func pathOf(kind payload.RepoType, name string) string {
	if kind == payload.Model {
		return "/" + name
	}
	return "/" + string(kind) + "s/" + name
}

// find returns the repo or bucket, nil if there is none.
func (p *page) find(kind payload.RepoType, name string) *item {
	i := &item{Type: kind, Name: name, Path: pathOf(kind, name)}
	if kind == payload.Bucket {
		if i.Bucket = p.hub.Bucket(name); i.Bucket == nil {
			return nil
		}
		i.Private = i.Bucket.Private()
		return i
	}
	if i.Repo = p.hub.Repo(kind, name); i.Repo == nil {
		return nil
	}
	i.Private = i.Repo.Private()
	return i
}

// at returns the repo or bucket whose page has a path. Addresses in payloads lead there, those of commits and discussions too.
func (p *page) at(path string) *item {
	elements := strings.Split(strings.Trim(path, "/"), "/")
	kind := payload.Model
	if k, is := strings.CutSuffix(elements[0], "s"); is && slices.Contains([]payload.RepoType{payload.Dataset, payload.Space, payload.Bucket}, payload.RepoType(k)) {
		kind, elements = payload.RepoType(k), elements[1:]
	}
	if len(elements) > 1 {
		if i := p.find(kind, elements[0]+"/"+elements[1]); i != nil {
			return i
		}
	}
	return p.find(kind, strings.Join(elements[:min(1, len(elements))], ""))
}

func (p *page) items() []item {
	var all []item
	for _, r := range p.hub.Repos() {
		if i := p.find(r.Type(), r.Name()); i != nil {
			all = append(all, *i)
		}
	}
	for _, b := range p.hub.Buckets() {
		if i := p.find(payload.Bucket, b.Name()); i != nil {
			all = append(all, *i)
		}
	}
	return all
}

// webhook is a webhook on the page.
type webhook struct {
	hubtest.Webhook
	State string // enabled, disabled or suspended
}

// Address is the URL without its query, which can have the secret in it.
func (w webhook) Address() string {
	address, _, cut := strings.Cut(w.URL, "?")
	if cut {
		address += "?…"
	}
	return address
}

// delivery is a delivery on the page.
type delivery struct {
	*hubtest.Delivery
	What, Repo, Path string
	State            hubtest.State
	Attempts         []hubtest.Attempt
	Body             string // indented
	Pending          bool
}

// state is all that the page shows.
type state struct {
	URL, User, Token string
	Items            []item
	Item             *item // of its own page; nil on the first
	Webhooks         []webhook
	Deliveries       []delivery // newest first
	More             int        // older deliveries
	Back             string     // the page's path
	Error            string
}

func (p *page) show(w http.ResponseWriter, path string, failed error) {
	s := state{URL: p.url, User: p.user, Token: token, Items: p.items(), Back: path}
	if path != "/" {
		if s.Item = p.at(path); s.Item == nil {
			http.Error(w, "there is no repo or bucket here", http.StatusNotFound)
			return
		}
	}
	if failed != nil {
		s.Error = failed.Error()
	}
	for _, w := range p.hub.Webhooks() {
		one := webhook{w, "enabled"}
		if disabled, err := p.hub.Disabled(w.ID); err != nil {
			continue // deleted meanwhile
		} else if disabled {
			one.State = "disabled"
		}
		if suspended, err := p.hub.Suspended(w.ID); err == nil && suspended {
			one.State = "suspended"
		}
		s.Webhooks = append(s.Webhooks, one)
	}
	for _, d := range slices.Backward(p.hub.Deliveries()) {
		if len(s.Deliveries) == shown {
			s.More++
			continue
		}
		s.Deliveries = append(s.Deliveries, newDelivery(d))
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, "page.html", s); err != nil {
		http.Error(w, "draw the page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "same-origin")
	if failed != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
	w.Write(b.Bytes())
}

func newDelivery(d *hubtest.Delivery) delivery {
	one := delivery{Delivery: d, State: d.State(), Attempts: d.Attempts(), What: "event", Body: string(d.Body)}
	one.Pending = one.State == hubtest.Pending
	if e, err := payload.Parse(d.Body); err == nil {
		one.What = string(e.Event.Scope) + " " + string(e.Event.Action)
		one.Repo, one.Path = e.Repo.Name, pathOf(e.Repo.Type, e.Repo.Name)
	}
	var b bytes.Buffer
	if json.Indent(&b, d.Body, "", "  ") == nil {
		one.Body = b.String()
	}
	if len(one.Body) > maxShown {
		one.Body = strings.ToValidUTF8(one.Body[:maxShown], "") + fmt.Sprintf("\n… (%d bytes in all)", len(d.Body))
	}
	return one
}

// do does what a form asks for and leads back to the page that the form was on.
func (p *page) do(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 32<<20)
	back := r.FormValue("back")
	if !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") {
		back = "/"
	}
	to, err := p.act(r)
	if err != nil {
		p.show(w, back, err)
		return
	}
	if to != "" {
		back = to
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

// number reads a number of a form, 0 for none.
func number(r *http.Request, name string) int {
	n, err := strconv.Atoi(r.FormValue(name))
	if err != nil {
		return 0
	}
	return n
}
