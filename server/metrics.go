package server

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hubhook/hubhook/queue"
)

// metrics counts what this process does. Sums over the store are gauges, asked of the queue when somebody looks.
type metrics struct {
	registry   *prometheus.Registry
	deliveries *prometheus.CounterVec
	receives   *prometheus.CounterVec
	duplicates *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	probes     *prometheus.CounterVec
	tunnelUp   atomic.Int32
}

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
		probes:     counter("hubhook_probes_total", "Requests of this process to its own public URL, by what they proved.", "result"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hubhook_attempt_duration_seconds",
			Help:    "How long attempts took in this process.",
			Buckets: []float64{.001, .01, .1, 1, 10, 60, 600, 3600},
		}, []string{"endpoint"}),
	}
	m.registry.MustRegister(m.deliveries, m.receives, m.duplicates, m.refusals, m.probes, m.seconds, stored{s},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubhook_tunnel_up", Help: "1 while the tunnel is online, 0 while it is not or there is none.",
		}, func() float64 { return float64(m.tunnelUp.Load()) }))
	return m
}

// add makes an endpoint's series visible from the start, at 0.
func (m *metrics) add(endpoint string) {
	m.receives.WithLabelValues(endpoint)
	m.duplicates.WithLabelValues(endpoint)
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
func (m *metrics) handled(endpoint string, d time.Duration) {
	m.seconds.WithLabelValues(endpoint).Observe(d.Seconds())
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})
}

// stored collects the numbers of stored deliveries.
type stored struct{ server *Server }

var storedDesc = prometheus.NewDesc("hubhook_stored_deliveries", "Deliveries in the store, by state.", []string{"endpoint", "state"}, nil)

func (c stored) Describe(ch chan<- *prometheus.Desc) { ch <- storedDesc }

func (c stored) Collect(ch chan<- prometheus.Metric) {
	q := c.server.queue.Load()
	if q == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	counts, err := q.Counts(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(storedDesc, err)
		return
	}
	for endpoint, byState := range counts {
		for state, n := range byState {
			ch <- prometheus.MustNewConstMetric(storedDesc, prometheus.GaugeValue, float64(n), endpoint, string(state))
		}
	}
}
