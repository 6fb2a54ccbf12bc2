package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v4"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/payload"
)

// scrape returns what /metrics serves.
func scrape(t *testing.T, s *Server) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.metrics.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("/metrics: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

var metricType = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)

// served returns the types of all metrics by name, of a server that has just started and handled nothing.
func served(t *testing.T) map[string]string {
	t.Helper()
	s := newServer(t, Config{})
	s.Handle("kept", nil)
	web := serve(t, s)
	post(t, web.URL+"/webhooks/kept", push) // what is stored shows in gauges alone
	types := map[string]string{}
	for _, m := range metricType.FindAllStringSubmatch(scrape(t, s), -1) {
		types[m[1]] = m[2]
	}
	if len(types) == 0 {
		t.Fatal("/metrics has no metric")
	}
	return types
}

func TestMetricsAreDocumented(t *testing.T) {
	text := string(readDocument(t, "reference/metrics.md"))
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(hubhook_\\w+)` \\| [^|]*\\| (.*) \\|$").FindAllStringSubmatch(text, -1) {
		documented[m[1]] = "counter"
		if kind, _, ok := strings.Cut(m[2], ": "); ok && (kind == "gauge" || kind == "histogram") {
			documented[m[1]] = kind
		}
		for name, values := range map[string][]string{"hubhook_refused_total": refusalReasons, "hubhook_probes_total": probeResults} {
			if list := "`" + strings.Join(slices.Sorted(slices.Values(values)), "`, `") + "`"; m[1] == name && !strings.Contains(m[2], list) {
				t.Errorf("docs/reference/metrics.md says of %s %q; want %s", name, m[2], list)
			}
		}
	}
	if got := served(t); !maps.Equal(got, documented) {
		t.Errorf("/metrics has\n%v\ndocs/reference/metrics.md has\n%v", got, documented)
	}
}

// A reason that is not among the series from the start would show up only with its first refusal, too late for a rate.
func TestEveryRefusalHasASeries(t *testing.T) {
	var causes []string
	note := func(name ast.Expr, value ast.Expr) {
		lit, isLiteral := value.(*ast.BasicLit)
		field, isField := name.(*ast.SelectorExpr)
		key, isKey := name.(*ast.Ident)
		if isLiteral && (isField && field.Sel.Name == "cause" || isKey && key.Name == "cause") {
			causes = append(causes, strings.Trim(lit.Value, `"`))
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				note(n.Key, n.Value)
			case *ast.AssignStmt:
				for i := range min(len(n.Lhs), len(n.Rhs)) {
					note(n.Lhs[i], n.Rhs[i])
				}
			}
			return true
		})
	}
	slices.Sort(causes)
	if causes = slices.Compact(causes); !slices.Equal(causes, slices.Sorted(slices.Values(refusalReasons))) {
		t.Errorf("requests are refused for %q, the series of hubhook_refused_total are %q", causes, refusalReasons)
	}
}

func readDocument(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// expressions of the dashboard and of the alerts, in PromQL, by where they stand.
func expressions(t *testing.T) (dashboard, alerts map[string]string) {
	t.Helper()
	var board struct {
		SchemaVersion int
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			ID          int
			Type, Title string
			Datasource  struct{ UID string }
			GridPos     struct{ H, W, X, Y int }
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(readDocument(t, "grafana/hubhook.json"), &board); err != nil {
		t.Fatal(err)
	}
	dashboard = map[string]string{}
	variables := map[string]bool{}
	for _, v := range board.Templating.List {
		variables[v.Name] = true
		if m := regexp.MustCompile(`^label_values\((.*), \w+\)$`).FindStringSubmatch(v.Definition); m != nil {
			dashboard["variable "+v.Name] = m[1]
		} else if v.Type != "datasource" {
			t.Errorf("the variable %s is defined as %q", v.Name, v.Definition)
		}
	}
	for _, name := range []string{"datasource", "instance", "endpoint"} {
		if !variables[name] {
			t.Errorf("the dashboard has no variable %s", name)
		}
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.H == 0 {
			t.Errorf("the panel %q has the ID %d and lies at %+v", p.Title, p.ID, p.GridPos)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("the panel %q has %d queries of the source %q", p.Title, len(p.Targets), p.Datasource.UID)
		}
		for i, q := range p.Targets {
			dashboard[fmt.Sprintf("panel %q, query %d", p.Title, i+1)] = q.Expr
			if q.LegendFormat == "" {
				t.Errorf("the panel %q has a query without a legend: %s", p.Title, q.Expr)
			}
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	strict := yaml.NewDecoder(bytes.NewReader(readDocument(t, "prometheus/alerts.yaml")))
	if err := strict.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	alerts = map[string]string{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("the alert %s says too little: %v %v", r.Alert, r.Labels, r.Annotations)
			}
			alerts["alert "+r.Alert] = r.Expr
		}
	}
	if board.SchemaVersion == 0 || len(dashboard) == 0 || len(alerts) == 0 {
		t.Fatalf("schema version %d, %d queries, %d alerts", board.SchemaVersion, len(dashboard), len(alerts))
	}
	return dashboard, alerts
}

// TestDashboardShowsEveryMetric checks that the dashboard and the alerts ask for metrics that there are, and the dashboard for all.
func TestDashboardShowsEveryMetric(t *testing.T) {
	types := served(t)
	shown := map[string]bool{}
	name := regexp.MustCompile(`hubhook_\w+`)
	dashboard, alerts := expressions(t)
	for where, expr := range dashboard {
		for _, m := range name.FindAllString(expr, -1) {
			shown[baseName(m, types)] = true
			if types[baseName(m, types)] == "" {
				t.Errorf("%s asks for %s, which /metrics does not have", where, m)
			}
		}
	}
	for where, expr := range alerts {
		found := name.FindAllString(expr, -1)
		for _, m := range found {
			if types[baseName(m, types)] == "" {
				t.Errorf("%s asks for %s, which /metrics does not have", where, m)
			}
		}
		if len(found) == 0 {
			t.Errorf("%s asks for no metric of ours: %s", where, expr)
		}
	}
	for metric := range types {
		if !shown[metric] {
			t.Errorf("the dashboard does not show %s", metric)
		}
	}
}

// baseName is the name of the histogram that a series belongs to, or the series' own.
func baseName(series string, types map[string]string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(series, suffix); ok && types[base] == "histogram" {
			return base
		}
	}
	return series
}

// TestPrometheusReadsAllExpressions has Prometheus's own tool check the alerts, and the dashboard's queries as if they were rules.
func TestPrometheusReadsAllExpressions(t *testing.T) {
	promtool := needs.Program(t, "promtool")
	dashboard, _ := expressions(t)
	replace := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$endpoint", ".*")
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for _, where := range slices.Sorted(maps.Keys(dashboard)) {
		rules = append(rules, rule{fmt.Sprintf("query:%d", len(rules)), replace.Replace(dashboard[where])})
	}
	queries, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, queries, 0o600); err != nil {
		t.Fatal(err)
	}
	alerts := filepath.Join("..", "docs", "prometheus", "alerts.yaml")
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", file, alerts).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s\n%s", err, out, queries)
	}
	// The example of a configuration in the guide.
	_, block, _ := strings.Cut(string(readDocument(t, "production.md")), "```yaml\nscrape_configs:")
	block, _, ok := strings.Cut(block, "```")
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(config, []byte("scrape_configs:"+block), 0o600); err != nil || !ok {
		t.Fatalf("docs/production.md has no scrape_configs, or %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "config", config).CombinedOutput(); err != nil {
		t.Errorf("promtool check config: %v\n%s", err, out)
	}
}

func TestMetricsOfWork(t *testing.T) {
	s := newServer(t, Config{})
	started, release := make(chan struct{}, 1), make(chan struct{})
	s.Handle("failing", func(context.Context, *payload.Payload) (any, error) { return nil, errors.New("boom") }, Retry(2, time.Hour))
	s.Handle("held", func(context.Context, *payload.Payload) (any, error) {
		started <- struct{}{}
		<-release
		return nil, nil
	}, Concurrency(1))
	s.settings.ReplyWithin = -1
	web := serve(t, s)
	failing := post(t, web.URL+"/webhooks/failing", push).header.Get("Hubhook-Delivery")
	post(t, web.URL+"/webhooks/held", push)
	<-started
	post(t, web.URL+"/webhooks/held", push)
	until(t, s, failing, queue.Retrying)
	text := scrape(t, s)
	for _, want := range []string{
		`hubhook_failed_attempts_total\{endpoint="failing"\} 1`,
		`hubhook_failed_attempts_total\{endpoint="held"\} 0`,
		`hubhook_attempt_duration_seconds_count\{endpoint="failing"\} 1`,
		`hubhook_oldest_waiting_seconds\{endpoint="failing"\} 0`, // a retry does not wait to be started
		`hubhook_oldest_waiting_seconds\{endpoint="held"\} (0\.|\d\.\d*e-)\d+`,
		`hubhook_stored_deliveries\{endpoint="held",state="waiting"\} 1`,
		`hubhook_commit_deliveries_sum 3`,
		`hubhook_commit_duration_seconds_count [1-9]\d*`,
	} {
		if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(text) {
			t.Errorf("/metrics has no line %s:\n%s", want, text)
		}
	}
	close(release)
}

// unanswered is asked of a store that does not answer.
type unanswered struct{ desc *prometheus.Desc }

func (u unanswered) Describe(ch chan<- *prometheus.Desc) { ch <- u.desc }
func (u unanswered) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(u.desc, errors.New("it did not answer in time"))
}

// While the store does not answer, the metrics that this process has of its own are those that tell of it.
func TestMetricsWithoutTheStore(t *testing.T) {
	s := newServer(t, Config{})
	s.Handle("inbox", func(context.Context, *payload.Payload) (any, error) { return nil, nil })
	serve(t, s)
	s.metrics.registry.MustRegister(unanswered{prometheus.NewDesc("hubhook_unanswered", "Asked of the store.", nil, nil)})
	s.metrics.refused("not_stored")
	text := scrape(t, s)
	if !strings.Contains(text, `hubhook_refused_total{reason="not_stored"} 1`) || strings.Contains(text, "hubhook_unanswered") {
		t.Errorf("/metrics says:\n%s", text)
	}
}
