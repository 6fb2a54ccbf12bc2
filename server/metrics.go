package server

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hubhook/hubhook/internal/queue"
)

// metrics counts what this process does. Sums over the store are gauges, asked of the queue when somebody looks.
type metrics struct {
	registry   *prometheus.Registry
	deliveries *prometheus.CounterVec
	receives   *prometheus.CounterVec
	duplicates *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	failures   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	commits    prometheus.Histogram
	batches    prometheus.Histogram
	probes     *prometheus.CounterVec
	tunnelUp   atomic.Int32
}

// refusalReasons are those of hubhook_refused_total.
var refusalReasons = []string{
	"unknown_endpoint", "wrong_method", "no_secret", "wrong_secret", "too_large", "cut_body", "bad_json",
	"busy", "full", "stopping", "gone", "not_stored", "not_handled", "failed",
}

// probeResults are those of hubhook_probes_total.
var probeResults = []string{"reachable", "unreachable", "unchecked"}

func newMetrics(s *Server) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		deliveries: counter("hubhook_deliveries_total", "Times a delivery came into a state by the end of an attempt, or ended without one, in this process.", "endpoint", "state"),
		receives:   counter("hubhook_received_total", "Deliveries that passed admission in this process, duplicates included.", "endpoint"),
		duplicates: counter("hubhook_duplicates_total", "Deliveries answered as duplicates by this process.", "endpoint"),
		refusals:   counter("hubhook_refused_total", "Requests refused by this process, by reason.", "reason"),
		failures:   counter("hubhook_failed_attempts_total", "Attempts that failed in this process, those that are tried again included.", "endpoint"),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "hubhook_commit_duration_seconds",
			Help:    "How long this process's commits took, the sync included.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "hubhook_commit_deliveries",
			Help:    "How many deliveries one commit of this process stored, of those that stored any.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		probes: counter("hubhook_probes_total", "Requests of this process to its own public URL, by what they proved.", "result"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hubhook_attempt_duration_seconds",
			Help:    "How long attempts took in this process.",
			Buckets: []float64{.001, .01, .1, 1, 10, 60, 600, 3600},
		}, []string{"endpoint"}),
	}
	for _, reason := range refusalReasons {
		m.refusals.WithLabelValues(reason)
	}
	for _, result := range probeResults {
		m.probes.WithLabelValues(result)
	}
	m.registry.MustRegister(m.deliveries, m.receives, m.duplicates, m.refusals, m.probes, m.failures, m.seconds, m.commits, m.batches, stored{s},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubhook_tunnel_up", Help: "1 while the tunnel is online, 0 while it is not or there is none.",
		}, func() float64 { return float64(m.tunnelUp.Load()) }))
	return m
}

// add makes an endpoint's series visible from the start, at 0.
func (m *metrics) add(endpoint string) {
	m.receives.WithLabelValues(endpoint)
	m.duplicates.WithLabelValues(endpoint)
	m.failures.WithLabelValues(endpoint)
	m.seconds.WithLabelValues(endpoint)
	for _, state := range queue.States() {
		if state.Finished() || state == queue.Retrying {
			m.deliveries.WithLabelValues(endpoint, string(state))
		}
	}
}

func (m *metrics) received(endpoint string)  { m.receives.WithLabelValues(endpoint).Inc() }
func (m *metrics) duplicate(endpoint string) { m.duplicates.WithLabelValues(endpoint).Inc() }
func (m *metrics) probed(result string)      { m.probes.WithLabelValues(result).Inc() }
func (m *metrics) refused(reason string)     { m.refusals.WithLabelValues(reason).Inc() }
func (m *metrics) ended(endpoint, state string) {
	m.deliveries.WithLabelValues(endpoint, state).Inc()
}

// attempted notes an attempt that has ended.
func (m *metrics) attempted(endpoint string, d time.Duration, failed bool) {
	m.seconds.WithLabelValues(endpoint).Observe(d.Seconds())
	if failed {
		m.failures.WithLabelValues(endpoint).Inc()
	}
}

// committed is queue.Config.Committed.
func (m *metrics) committed(stored, _ int, took time.Duration) {
	m.commits.Observe(took.Seconds())
	if stored > 0 {
		m.batches.Observe(float64(stored))
	}
}

// handler answers with the metrics that there are. While the store does not answer, those that come from the store are missing, and
// hubhook_refused_total shows why.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// stored collects what is asked of the store: numbers of deliveries, and how long the oldest have waited.
type stored struct{ server *Server }

var (
	storedDesc = prometheus.NewDesc("hubhook_stored_deliveries", "Deliveries in the store, by state.", []string{"endpoint", "state"}, nil)
	oldestDesc = prometheus.NewDesc("hubhook_oldest_waiting_seconds", "How long ago the oldest delivery that waits to be started was received; 0 where none waits.", []string{"endpoint"}, nil)
)

func (c stored) Describe(ch chan<- *prometheus.Desc) {
	ch <- storedDesc
	ch <- oldestDesc
}

func (c stored) Collect(ch chan<- prometheus.Metric) {
	q := c.server.queue.Load()
	if q == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	oldest, err := q.Oldest(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(oldestDesc, err)
		return
	}
	for _, endpoint := range c.server.names() {
		age := 0.0
		if received, waits := oldest[endpoint]; waits {
			age = max(0, time.Since(received).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age, endpoint)
	}
	if counts, err := q.Counts(ctx); err != nil {
		ch <- prometheus.NewInvalidMetric(storedDesc, err)
	} else {
		for endpoint, byState := range counts {
			for state, n := range byState {
				ch <- prometheus.MustNewConstMetric(storedDesc, prometheus.GaugeValue, float64(n), endpoint, string(state))
			}
		}
	}
}
