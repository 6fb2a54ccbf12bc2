package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	webhooksPrefix = "/webhooks/"
	// rootName is the endpoint for a program that takes deliveries at "/", as serve's is without names.
	rootName = "inbox"

	askTimeout = 2 * time.Second
	askLimit   = 8 << 20 // bytes of an answer
)

// A Route is an endpoint of a program: deliveries to /webhooks/NAME go to Path.
type Route struct {
	Name string
	Path string
	By   RouteSource
}

// A RouteSource says how a route became known.
type RouteSource string

// Route sources, the surest first.
const (
	ByFlag    RouteSource = "--path"
	ByOutput  RouteSource = "what the program prints"
	ByHome    RouteSource = "its home page"
	ByOpenAPI RouteSource = "its /openapi.json"
	ByTrial   RouteSource = "asking for the usual paths"
)

// PathRoute is the route for a path that --path names.
func PathRoute(path string) (Route, error) {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?# \t") {
		return Route{}, fmt.Errorf("--path %s: it is a path, such as /hook", path)
	}
	return Route{Name: routeName(path), Path: path, By: ByFlag}, nil
}

var unusableInName = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// routeName is the endpoint's name for a path: the path itself as far as a name can have it.
func routeName(path string) string {
	var segments []string
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, webhooksPrefix), "/") {
		if segment = strings.Trim(unusableInName.ReplaceAllString(segment, "-"), "-"); segment != "" && strings.Trim(segment, ".") != "" {
			segments = append(segments, segment)
		}
	}
	if len(segments) == 0 {
		return rootName
	}
	return strings.Join(segments, "/")
}

var (
	printedPost = regexp.MustCompile(`^\s*[-*•]\s+POST\s+(\S+)\s*$`)
	printedURL  = regexp.MustCompile(`https?://(?:127\.0\.0\.1|0\.0\.0\.0|localhost|\[::1?\]):([0-9]{2,5})\b`)
)

// printedRoute reads a line as WebhooksServer and hubhook print their endpoints: "  - POST https://example.hf.space/webhooks/NAME".
func printedRoute(line string) (Route, bool) {
	m := printedPost.FindStringSubmatch(escapes.ReplaceAllString(line, ""))
	if m == nil {
		return Route{}, false
	}
	u, err := url.Parse(m[1])
	if err != nil {
		return Route{}, false
	}
	// A server below a path of its own prints that too.
	i := strings.Index(u.Path, webhooksPrefix)
	if i < 0 || len(u.Path) == i+len(webhooksPrefix) {
		return Route{}, false
	}
	path := strings.TrimSuffix(u.Path[i:], "/")
	return Route{Name: routeName(path), Path: path, By: ByOutput}, true
}

// postsOfOpenAPI returns the paths of an OpenAPI description that take POST, sorted, without those that have parameters.
func postsOfOpenAPI(b []byte) ([]string, error) {
	var description struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(b, &description); err != nil {
		return nil, fmt.Errorf("read /openapi.json: %w", err)
	}
	if description.OpenAPI == "" {
		return nil, errors.New("read /openapi.json: it is not OpenAPI")
	}
	var posts []string
	for _, path := range slices.Sorted(maps.Keys(description.Paths)) {
		if _, ok := description.Paths[path]["post"]; ok && strings.HasPrefix(path, "/") && !strings.Contains(path, "{") {
			posts = append(posts, path)
		}
	}
	return posts, nil
}

// postsOfHome returns the paths of the endpoints that hubhook's home page names in JSON.
func postsOfHome(b []byte) ([]string, error) {
	var home struct {
		Endpoints []struct {
			Name string `json:"name"`
			URL  string `json:"url"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(b, &home); err != nil {
		return nil, fmt.Errorf("read the home page: %w", err)
	}
	var posts []string
	for _, endpoint := range home.Endpoints {
		if u, err := url.Parse(endpoint.URL); err == nil && strings.HasSuffix(u.Path, webhooksPrefix+endpoint.Name) && endpoint.Name != "" {
			posts = append(posts, u.Path)
		}
	}
	return posts, nil
}

// notHooks are POST routes that frameworks add by themselves.
var notHooks = regexp.MustCompile(`^/(gradio_api/|login/?$|logout/?$|token/?$|auth/)`)

// routesOf chooses the endpoints among the paths that take POST: those under /webhooks/, or the only one there is.
func routesOf(posts []string, by RouteSource) []Route {
	var routes []Route
	var others []string
	for _, path := range posts {
		switch {
		case strings.HasPrefix(path, webhooksPrefix) && len(path) > len(webhooksPrefix):
			routes = append(routes, Route{Name: routeName(path), Path: path, By: by})
		case !notHooks.MatchString(path):
			others = append(others, path)
		}
	}
	if len(routes) == 0 && len(others) == 1 {
		routes = append(routes, Route{Name: routeName(others[0]), Path: others[0], By: by})
	}
	return routes
}

// usualPaths are where programs take webhooks that do not say so: a router answers GET with 405 and the methods that it does take.
var usualPaths = []string{
	"/webhook", "/webhooks", "/hook", "/hooks", "/api/webhook", "/api/webhooks", "/hf-webhook", "/hf_webhook", "/huggingface", "/hf", "/",
}

// Found is what a program says about itself.
type Found struct {
	Routes []Route
	Posts  []string // paths that take POST, for messages; more than Routes where hubhook cannot choose
	Schema []byte   // its OpenAPI description, if it has one
}

// asker asks a running program for its endpoints. It sends GET and OPTIONS only, so that no handler runs.
type asker struct {
	client *http.Client
}

func newAsker() *asker {
	return &asker{client: &http.Client{
		Timeout: askTimeout,
		// No proxy, and no connection that is kept: a server that ends gracefully would wait for it.
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// ask returns what the program at base ("http://127.0.0.1:7000") says of its endpoints. Where it says nothing and try is set, its router is
// asked for the paths of known, then for the usual ones. The error is that of the connection.
func (a *asker) ask(ctx context.Context, base string, known []Route, try bool) (Found, error) {
	answer, err := a.get(ctx, http.MethodGet, base+"/openapi.json")
	if err != nil {
		return Found{}, err
	}
	if answer.status == http.StatusOK {
		if posts, err := postsOfOpenAPI(answer.body); err == nil {
			return Found{Routes: routesOf(posts, ByOpenAPI), Posts: slices.DeleteFunc(posts, notHooks.MatchString), Schema: answer.body}, nil
		}
	}
	if answer, err = a.get(ctx, http.MethodGet, base+"/"); err != nil {
		return Found{}, err
	}
	if answer.status == http.StatusOK && strings.HasPrefix(answer.header.Get("Content-Type"), "application/json") {
		if posts, err := postsOfHome(answer.body); err == nil && len(posts) > 0 {
			return Found{Routes: routesOf(posts, ByHome), Posts: posts}, nil
		}
	}
	method := routerMethod(answer.header)
	if method == "" || !try {
		return Found{}, nil
	}
	var of []string
	for _, route := range known {
		of = append(of, route.Path)
	}
	posts, err := a.thatTakePost(ctx, method, base, of)
	if err == nil && len(posts) == 0 {
		posts, err = a.thatTakePost(ctx, method, base, usualPaths)
	}
	return Found{Routes: routesOf(posts, ByTrial), Posts: posts}, err
}

func (a *asker) thatTakePost(ctx context.Context, method, base string, paths []string) ([]string, error) {
	var posts []string
	for _, path := range paths {
		takes, err := a.takesPost(ctx, method, base+path)
		if err != nil {
			return nil, err
		}
		if takes {
			posts = append(posts, path)
		}
	}
	return posts, nil
}

// takesPost reports whether a router says that the URL takes POST.
func (a *asker) takesPost(ctx context.Context, method, at string) (bool, error) {
	answer, err := a.get(ctx, method, at)
	if err != nil {
		return false, err
	}
	if method == http.MethodGet && answer.status != http.StatusMethodNotAllowed {
		return false, nil
	}
	for allowed := range strings.SplitSeq(strings.Join(answer.header.Values("Allow"), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(allowed), http.MethodPost) {
			return true, nil
		}
	}
	return false, nil
}

// routerMethod returns the method whose answer tells which methods a path takes, by the framework that answered; "" for an unknown one, which
// may run a handler for anything.
func routerMethod(header http.Header) string {
	server := strings.ToLower(header.Get("Server"))
	for _, known := range []string{"werkzeug", "gunicorn", "uvicorn", "hypercorn", "waitress"} {
		if strings.HasPrefix(server, known) {
			return http.MethodGet
		}
	}
	if strings.HasPrefix(header.Get("X-Powered-By"), "Express") {
		return http.MethodOptions // Express answers GET with 404 there
	}
	return ""
}

type programAnswer struct {
	status int
	header http.Header
	body   []byte
}

func (a *asker) get(ctx context.Context, method, at string) (programAnswer, error) {
	r, err := http.NewRequestWithContext(ctx, method, at, nil)
	if err != nil {
		return programAnswer{}, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "hubhook-dev")
	answer, err := a.client.Do(r)
	if err != nil {
		return programAnswer{}, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, askLimit))
	if err != nil {
		return programAnswer{}, err
	}
	return programAnswer{answer.StatusCode, answer.Header, body}, nil
}
