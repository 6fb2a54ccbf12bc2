package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// A figure is one line of the table.
type figure struct {
	what    string
	hubhook string // as measured, with its unit
	against string // what it was compared with, as measured; empty for none
	value   string // the ratio, with the spread of its rounds; empty for none
	target  string // such as "at least 0.35"; empty where there is none
	short   bool   // of the target
}

// A target is what a figure ought to be.
type target struct {
	atMost bool // rather than at least
	bound  float64
	unit   string
}

func (t target) String() string {
	if t.atMost {
		return fmt.Sprintf("at most %g%s", t.bound, t.unit)
	}
	return fmt.Sprintf("at least %g%s", t.bound, t.unit)
}

// missed reports whether value falls short of the target.
func (t target) missed(value float64) bool {
	if t.atMost {
		return value > t.bound
	}
	return value < t.bound
}

// rounds are what two servers did in rounds that took turns, in any unit. Ratios are made within a round, where the machine was in one
// mood for both.
type rounds struct {
	hubhook, against []float64
}

func (r *rounds) add(hubhook, against float64) {
	r.hubhook = append(r.hubhook, hubhook)
	r.against = append(r.against, against)
}

// ratio returns the median of the rounds' ratios of hubhook to the other, with the smallest and the largest.
func (r *rounds) ratio() (median, lowest, highest float64) {
	ratios := make([]float64, len(r.hubhook))
	for i := range ratios {
		ratios[i] = r.hubhook[i] / r.against[i]
	}
	median = percentile(ratios, 0.5)
	return median, ratios[0], ratios[len(ratios)-1]
}

// figure compares the medians under a target for the ratio. Format writes a measured value with its unit.
func (r *rounds) figure(what string, t target, format func(float64) string) figure {
	median, lowest, highest := r.ratio()
	return figure{
		what:    what,
		hubhook: format(percentile(r.hubhook, 0.5)),
		against: format(percentile(r.against, 0.5)),
		value:   fmt.Sprintf("%.2f (%.2f-%.2f)", median, lowest, highest),
		target:  t.String(),
		short:   t.missed(median),
	}
}

func perSecond(rate float64) string { return fmt.Sprintf("%.0f/s", rate) }

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// writeTable writes the figures as aligned columns.
func writeTable(w io.Writer, figures []figure) error {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "figure\thubhook\tagainst\tratio (spread)\ttarget\t")
	for _, f := range figures {
		verdict := "ok"
		switch {
		case f.target == "":
			verdict = ""
		case f.short:
			verdict = "SHORT OF TARGET"
		}
		fmt.Fprintf(columns, "%s\t%s\t%s\t%s\t%s\t%s\n", f.what, f.hubhook, f.against, f.value, f.target, verdict)
	}
	return columns.Flush()
}
