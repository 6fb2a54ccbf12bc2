package action

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// caseWidth is how wide the column of case names is, in characters.
const caseWidth = 40

// A ProbeTable writes results for people, as they come: what was sent, the answer, the time, the verdict, and the fix.
type ProbeTable struct {
	w        io.Writer
	endpoint string
	advised  map[Advice]string // the case that was advised first
}

// NewProbeTable returns a table that is written to w.
func NewProbeTable(w io.Writer) *ProbeTable {
	return &ProbeTable{w: w, advised: make(map[Advice]string)}
}

// Row writes one result.
func (t *ProbeTable) Row(r ProbeResult) error {
	var b strings.Builder
	if r.Endpoint != t.endpoint {
		if t.endpoint != "" {
			b.WriteByte('\n')
		}
		t.endpoint = r.Endpoint
		clear(t.advised)
		fmt.Fprintf(&b, "%s\n  %s  %-8s  %7s  %s\n", r.Endpoint, pad("sent", caseWidth), "answer", "time", "verdict")
	}
	fmt.Fprintf(&b, "  %s  %-8s  %7s  %s\n", pad(r.Case, caseWidth), r.statuses(), r.took(), r.Verdict)
	if r.Advice != nil {
		if first, ok := t.advised[*r.Advice]; ok {
			fmt.Fprintf(&b, "      as for %s\n", first)
		} else {
			t.advised[*r.Advice] = r.Case
			fmt.Fprintf(&b, "      %s\n      fix: %s\n", r.Advice.Cause, r.Advice.Fix)
		}
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}

// End writes the sum of a report.
func (t *ProbeTable) End(r *ProbeReport) error {
	_, err := fmt.Fprintf(t.w, "\n%s in %s\n", r.sum(), r.Took.Round(100*time.Millisecond))
	return err
}

// sum counts the verdicts, as "31 passed, 4 failed, 1 warned".
func (r *ProbeReport) sum() string {
	text := fmt.Sprintf("%d passed, %d failed", r.count(ProbePassed), r.count(ProbeFailed))
	for _, v := range []ProbeVerdict{ProbeWarned, ProbeSkipped} {
		if n := r.count(v); n > 0 {
			text += fmt.Sprintf(", %d %s", n, v)
		}
	}
	return text
}

// statuses is what the column "answer" says: "200", "200 200", "none".
func (r ProbeResult) statuses() string {
	var texts []string
	for _, a := range r.Answers {
		if a.Status == 0 {
			texts = append(texts, "none")
			continue
		}
		texts = append(texts, strconv.Itoa(a.Status))
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, " ")
}

// took is the time of the slowest answer.
func (r ProbeResult) took() string {
	if len(r.Answers) == 0 {
		return "-"
	}
	var most time.Duration
	for _, a := range r.Answers {
		most = max(most, a.Took)
	}
	if most < time.Millisecond {
		return "<1 ms"
	}
	if most < 10*time.Second {
		return fmt.Sprintf("%d ms", most.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", most.Seconds())
}

// pad is %-*s for characters in place of bytes.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// probeLine is a result as --json prints it.
type probeLine struct {
	Type     string        `json:"type"` // "case"
	Time     time.Time     `json:"time"`
	Endpoint string        `json:"endpoint"`
	Case     string        `json:"case"`
	Answers  []probeAnswer `json:"answers"`
	Verdict  ProbeVerdict  `json:"verdict"`
	Cause    string        `json:"cause,omitempty"`
	Fix      string        `json:"fix,omitempty"`
}

type probeAnswer struct {
	Status     int     `json:"status"` // 0 for none
	DurationMS float64 `json:"duration_ms"`
	Error      string  `json:"error,omitempty"`
}

type probeSum struct {
	Type       string    `json:"type"` // "summary"
	Time       time.Time `json:"time"`
	Passed     int       `json:"passed"`
	Failed     int       `json:"failed"`
	Warned     int       `json:"warned"`
	Skipped    int       `json:"skipped"`
	DurationMS float64   `json:"duration_ms"`
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// WriteProbeJSON writes one result as a line of JSON.
func WriteProbeJSON(w io.Writer, r ProbeResult) error {
	line := probeLine{Type: "case", Time: time.Now().UTC(), Endpoint: r.Endpoint, Case: r.Case, Answers: []probeAnswer{}, Verdict: r.Verdict}
	for _, a := range r.Answers {
		line.Answers = append(line.Answers, probeAnswer{a.Status, milliseconds(a.Took), a.Error})
	}
	if r.Advice != nil {
		line.Cause, line.Fix = r.Advice.Cause, r.Advice.Fix
	}
	return json.NewEncoder(w).Encode(line)
}

// WriteProbeJSONSum writes the sum of a report as a line of JSON.
func WriteProbeJSONSum(w io.Writer, r *ProbeReport) error {
	return json.NewEncoder(w).Encode(probeSum{
		"summary", time.Now().UTC(), r.count(ProbePassed), r.count(ProbeFailed), r.count(ProbeWarned), r.count(ProbeSkipped), milliseconds(r.Took),
	})
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
	Out     string        `xml:"system-out,omitempty"` // a warning
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes a report as JUnit's XML: a suite for each endpoint.
func WriteJUnit(w io.Writer, r *ProbeReport) error {
	all := junitSuites{Name: "hubhook test", Tests: len(r.Results), Failures: r.Failed(), Time: seconds(r.Took)}
	spent := time.Duration(0)
	for i, result := range r.Results {
		if i == 0 || result.Endpoint != r.Results[i-1].Endpoint {
			all.Suites = append(all.Suites, junitSuite{Name: result.Endpoint})
			spent = 0
		}
		suite := &all.Suites[len(all.Suites)-1]
		took := time.Duration(0)
		for _, a := range result.Answers {
			took += a.Took
		}
		spent += took
		c := junitCase{Name: result.Case, Class: "hubhook." + result.Endpoint, Time: seconds(took)}
		if result.Advice != nil {
			message := &junitMessage{result.Advice.Cause, fmt.Sprintf("answer: %s\n%s\nfix: %s", result.statuses(), result.Advice.Cause, result.Advice.Fix)}
			switch result.Verdict {
			case ProbeFailed:
				c.Failure = message
				suite.Failures++
			case ProbeSkipped:
				c.Skipped = message
				suite.Skipped++
			default:
				c.Out = message.Text
			}
		}
		suite.Cases = append(suite.Cases, c)
		suite.Tests++
		suite.Time = seconds(spent)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }
