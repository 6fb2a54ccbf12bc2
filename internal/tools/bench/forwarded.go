package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/hubhook/hubhook/internal/freeport"
)

// forwardedShare is how much of a reverse proxy's rate forwarding is to reach, beyond what durable deliveries cost without forwarding.
const forwardedShare = 0.8

// forwardedField is the servers that forwarding is compared with. Both forward to the same upstream.
type forwardedField struct {
	forwarded, proxy, durable, bare *contender

	stops stack
}

// measureForwarded compares hubhook that forwards with a reverse proxy that stores nothing. The target follows from the ratio of durable
// deliveries to bare requests in the same rounds.
func (w *workshop) measureForwarded(ctx context.Context) (figures []figure, err error) {
	f := new(forwardedField)
	defer func() { err = errors.Join(err, f.stops.unwind()) }()
	if err := w.startForwarded(ctx, f); err != nil {
		return nil, err
	}
	reached := 0.0
	for _, connections := range []int{16, mostConnections} {
		what := "forwarded, " + counting(connections, "connection")
		measured, err := w.takeTurns(what, f.forwarded.gauge(ctx, connections), f.proxy.gauge(ctx, connections), f.durable.gauge(ctx, connections), f.bare.gauge(ctx, connections))
		if err != nil {
			return nil, err
		}
		durable, _, _ := rounds{measured[2], measured[3]}.ratio()
		figures = append(figures, rounds{measured[0], measured[1]}.figure(what, "reverse proxy", atLeast(forwardedShare*durable), perSecond))
		last := &figures[len(figures)-1]
		last.target = fmt.Sprintf("at least %s, %g of %s", ratioText(forwardedShare*durable), forwardedShare, ratioText(durable))
		figures = append(figures, rounds{measured[2], measured[3]}.figure("not forwarded, "+counting(connections, "connection"), "bare", target{}, perSecond))
		reached = median(measured[0])
	}
	half := fmt.Sprintf("forwarded at %s, half of the most", perSecond(reached/2))
	latency, err := w.compareLatency(ctx, half, reached/2, f.forwarded, f.proxy, "reverse proxy", target{})
	return append(figures, latency...), err
}

func (w *workshop) startForwarded(ctx context.Context, f *forwardedField) error {
	keep := func(c **contender, p *contender, err error) error {
		if err == nil {
			*c = p
			f.stops.push(p.stop)
		}
		return err
	}
	start := func(c **contender, role string, args ...string) error {
		addr, err := freeport.Address()
		if err != nil {
			return err
		}
		p, err := launchRole(ctx, role, addr, args...)
		started, err := w.contend(ctx, p, err)
		return keep(c, started, err)
	}
	var upstream *contender
	if err := start(&upstream, "upstream"); err != nil {
		return err
	}
	target := "http://" + upstream.addr + deliveryPath
	if err := start(&f.proxy, "reverse proxy", target); err != nil {
		return err
	}
	bare, err := w.startBare(ctx)
	if err := keep(&f.bare, bare, err); err != nil {
		return err
	}
	durable, err := w.startHubhook(ctx, store{})
	if err := keep(&f.durable, durable, err); err != nil {
		return err
	}
	forwarded, err := w.startForwarding(ctx, target)
	return keep(&f.forwarded, forwarded, err)
}

// startForwarding starts the hubhook binary, as in production, with an endpoint that forwards.
func (w *workshop) startForwarding(ctx context.Context, target string) (*contender, error) {
	inspector, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	p, err := w.launchServe(ctx, "", nil, "--inspector", inspector, "--forward", "inbox="+target)
	c, err := w.contend(ctx, p, err)
	if err == nil {
		c.inspector = inspector
	}
	return c, err
}

// serveUpstream is a program that answers at once.
func serveUpstream(ctx context.Context, addr string, _ []string) error {
	return serveRoutes(ctx, addr, http.HandlerFunc(answerEmpty))
}

// serveProxy is the reverse proxy of the standard library with one setting: as many idle connections as hubhook keeps. Its argument is the
// URL that it forwards to.
func serveProxy(ctx context.Context, addr string, args []string) error {
	target, err := url.Parse(args[0])
	if err != nil {
		return err
	}
	return serveRoutes(ctx, addr, proxyTo(target))
}

func proxyTo(target *url.URL) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = mostConnections
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL, r.Out.Host = target, target.Host },
	}
}

// routes has deliveries served by h, and /healthz.
func routes(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("POST "+deliveryPath, h)
	return mux
}

// serveRoutes serves the routes of h until ctx ends.
func serveRoutes(ctx context.Context, addr string, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: routes(h)}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case <-ctx.Done():
		return nil // nothing is in flight, and the process ends
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	}
}
