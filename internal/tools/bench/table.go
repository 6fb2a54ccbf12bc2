package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// A figure is one line of the table.
type figure struct {
	what    string
	hubhook string // as measured, with its unit
	against string // the other server and its value; empty for none
	value   string // the ratio, with the spread of its rounds; empty for none
	target  string // such as "at least 0.40"; empty for none
	short   bool   // of the target
}

// A target bounds a figure. The zero target is no bound.
type target struct {
	atMost bool // rather than at least
	bound  float64
	unit   string
}

func atLeast(ratio float64) target { return target{bound: ratio} }

func (t target) String() string {
	switch {
	case t == target{}:
		return ""
	case t.atMost:
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

// rounds holds the values of two servers that took turns, in any unit. A ratio is taken within a round, because the machine was in the
// same state for both there.
type rounds struct {
	hubhook, against []float64
}

func (r *rounds) add(hubhook, against float64) {
	r.hubhook = append(r.hubhook, hubhook)
	r.against = append(r.against, against)
}

// ratio returns the median of the rounds' ratios of hubhook to the other, with the smallest and the largest.
func (r rounds) ratio() (middle, lowest, highest float64) {
	ratios := make([]float64, len(r.hubhook))
	for i := range ratios {
		ratios[i] = r.hubhook[i] / r.against[i]
	}
	return median(ratios), slices.Min(ratios), slices.Max(ratios)
}

// figure compares the medians with those of a rival, under a target for the ratio. Format writes a measured value with its unit.
func (r rounds) figure(what, rival string, t target, format func(float64) string) figure {
	middle, lowest, highest := r.ratio()
	return figure{
		what:    what,
		hubhook: format(median(r.hubhook)),
		against: rival + " " + format(median(r.against)),
		value:   fmt.Sprintf("%s (%s-%s)", ratioText(middle), ratioText(lowest), ratioText(highest)),
		target:  t.String(),
		short:   t.missed(middle),
	}
}

// ratioText writes two decimals, and more where those would show little or nothing.
func ratioText(ratio float64) string {
	if ratio < 0.095 {
		return fmt.Sprintf("%.2g", ratio)
	}
	return fmt.Sprintf("%.2f", ratio)
}

// median returns the median of values and does not change them.
func median(values []float64) float64 { return percentile(slices.Clone(values), 0.5) }

func perSecond(rate float64) string { return fmt.Sprintf("%.0f/s", rate) }

// milliseconds formats a time, from a second on without decimals.
func milliseconds(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// counting formats a number with its noun: "1 connection", "2 connections".
func counting(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

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
