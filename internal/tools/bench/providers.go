package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// A way is a stand-in for a tunnel service, on loopback and in this process, and how hubhook uses it.
type way struct {
	service
	name string
	args []string // of tunnelBy
	// lose ends the session that is open.
	lose func() error
	// renames says that the service gives another URL to the session that replaces a lost one.
	renames bool
}

// service is what every stand-in can do.
type service interface {
	PublicAddr() string
	URLs() []string
	Close() error
}

// measureProviders compares tunnels of hubhook's, by each provider, with a reverse proxy of the standard library.
func (w *workshop) measureProviders(ctx context.Context) (figures []figure, err error) {
	stops := new(stack)
	defer func() { err = errors.Join(err, stops.unwind()) }()
	program, err := w.startRole(ctx, stops, "upstream")
	if err != nil {
		return nil, err
	}
	upstream := &url.URL{Scheme: "http", Host: program.addr, Path: deliveryPath}
	proxy, err := w.startRole(ctx, stops, "reverse proxy", upstream.String())
	if err != nil {
		return nil, err
	}
	var ways []*way
	for _, start := range []func() (*way, error){w.ngrokWay, w.sshWay, w.cloudflaredWay} {
		started, err := start()
		if err != nil {
			return nil, err
		}
		if started != nil {
			stops.push(started.Close)
			ways = append(ways, started)
		}
	}
	if figures, err = w.loadWays(ctx, ways, proxy); err != nil {
		return nil, err
	}
	times, err := w.timeWays(ctx, ways, upstream)
	return append(figures, times...), err
}

func (w *workshop) ngrokWay() (*way, error) {
	edge, err := tunneltest.StartEdge(tunneltest.Options{})
	if err != nil {
		return nil, err
	}
	config := filepath.Join(w.dir, "providers-ngrok.yml")
	if err := edge.WriteConfig(config, tunneltest.DefaultToken); err != nil {
		return nil, errors.Join(err, edge.Close())
	}
	return &way{service: edge, name: "ngrok", args: []string{"ngrok", config, ""}, lose: func() error { edge.Drop(); return nil }}, nil
}

func (w *workshop) sshWay() (*way, error) {
	home, err := w.data("home")
	if err != nil {
		return nil, err
	}
	server, err := tunneltest.StartSSH(tunneltest.SSHOptions{})
	if err != nil {
		return nil, err
	}
	return &way{service: server, name: "ssh", args: []string{"ssh", server.Addr(), home}, lose: func() error { server.Drop(); return nil }}, nil
}

// cloudflaredWay is nil where the stand-in can't run. Its session ends with its program.
func (w *workshop) cloudflaredWay() (*way, error) {
	if _, err := exec.LookPath("sh"); err != nil {
		w.skip("cloudflared is skipped: its stand-in needs sh, a POSIX shell")
		return nil, nil
	}
	far, err := tunneltest.StartCloudflared()
	if err != nil {
		return nil, err
	}
	lose := func() error {
		pids := far.PIDs()
		program, err := os.FindProcess(pids[len(pids)-1])
		if err != nil {
			return err
		}
		return program.Kill()
	}
	return &way{service: far, name: "cloudflared", args: []string{"cloudflared", far.Program()}, lose: lose, renames: true}, nil
}

// startRole starts this program in one of its roles, and waits until it serves.
func (w *workshop) startRole(ctx context.Context, stops *stack, role string, args ...string) (*process, error) {
	addr, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	p, err := launchRole(ctx, role, addr, args...)
	if err != nil {
		return nil, err
	}
	stops.push(p.stop)
	_, err = p.ready(ctx)
	return p, err
}

// loadWays compares the requests a second over 16 connections, and the p99 at a fixed rate.
func (w *workshop) loadWays(ctx context.Context, ways []*way, proxy *process) (figures []figure, err error) {
	base := side{"reverse proxy", newLoad(proxy.addr, proxy.addr, deliveryPath, "", w.payload)}
	var sides []side
	rate := func(l *load) gauge {
		return func(d time.Duration) (float64, error) {
			answered, elapsed, err := l.closedLoop(ctx, tunnelConnections[0], d)
			return float64(answered) / elapsed.Seconds(), err
		}
	}
	gauges := []gauge{rate(base.load)}
	running := new(stack) // until the end of this measurement: services open one tunnel
	defer func() { err = errors.Join(err, running.unwind()) }()
	for _, way := range ways {
		if _, err := w.startRole(ctx, running, "hubhook tunnel", way.args...); err != nil {
			return nil, err
		}
		urls := way.URLs()
		if len(urls) != 1 {
			return nil, fmt.Errorf("open a tunnel by %s: %d are open", way.name, len(urls))
		}
		l := newLoad(way.PublicAddr(), hostOf(urls[0]), deliveryPath, "", w.payload)
		sides = append(sides, side{"through " + way.name, l})
		gauges = append(gauges, rate(l))
	}
	what := counting(tunnelConnections[0], "connection")
	measured, err := w.takeTurns("providers, "+what, gauges...)
	if err != nil {
		return nil, err
	}
	for i, s := range sides {
		figures = append(figures, rounds{measured[i+1], measured[0]}.figure(s.name+", "+what, base.name, target{}, perSecond))
	}
	added, err := w.addedLatency(ctx, base, target{}, sides...)
	return append(figures, added...), err
}

func hostOf(public string) string {
	_, host, _ := strings.Cut(public, "://")
	return host
}

// timeWays measures how long it takes until a delivery is answered: from when the way in is opened, and from when its session is lost.
// Both sides run in this process. What the reverse proxy loses is its listener and all connections.
func (w *workshop) timeWays(ctx context.Context, ways []*way, upstream *url.URL) (figures []figure, err error) {
	opened, back := make([]rounds, len(ways)), make([]rounds, len(ways))
	for n := range w.starts {
		w.progress("open and lose a way in: round %d of %d", n+1, w.starts)
		times := make([][2]time.Duration, len(ways)+1) // the last is the reverse proxy's
		for _, i := range turn(n, len(times)) {
			if i == len(ways) {
				times[i][0], times[i][1], err = w.timeProxy(ctx, upstream)
			} else {
				times[i][0], times[i][1], err = w.timeTunnel(ctx, ways[i])
			}
			if err != nil {
				return nil, err
			}
		}
		proxy := times[len(ways)]
		for i := range ways {
			opened[i].add(times[i][0].Seconds(), proxy[0].Seconds())
			back[i].add(times[i][1].Seconds(), proxy[1].Seconds())
		}
	}
	inMilliseconds := func(seconds float64) string { return milliseconds(time.Duration(seconds * float64(time.Second))) }
	for _, of := range []struct {
		what     string
		measured []rounds
	}{{"open, ", opened}, {"back after a loss, ", back}} {
		for i, way := range ways {
			figures = append(figures, of.measured[i].figure(of.what+way.name, "reverse proxy", target{}, inMilliseconds))
		}
	}
	return figures, nil
}

// timeTunnel opens a tunnel, loses its session and closes it.
func (w *workshop) timeTunnel(ctx context.Context, by *way) (open, back time.Duration, err error) {
	provider, err := tunnelBy(by.args)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	tunnel, err := provider.Open(ctx)
	if err != nil {
		return 0, 0, err
	}
	srv := &http.Server{Handler: routes(http.HandlerFunc(answerEmpty))}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(tunnel) }()
	defer func() {
		err = errors.Join(err, srv.Close(), tunnel.Close()) // the second one waits until all is gone
		<-served
	}()
	if err := w.answered(ctx, by.PublicAddr(), tunnel.URL, ""); err != nil {
		return 0, 0, fmt.Errorf("open a tunnel by %s: %w", by.name, err)
	}
	open = time.Since(began)
	over := ""
	if by.renames {
		over = tunnel.URL()
	}
	began = time.Now()
	if err := by.lose(); err != nil {
		return 0, 0, fmt.Errorf("end the session of %s: %w", by.name, err)
	}
	if err := w.answered(ctx, by.PublicAddr(), tunnel.URL, over); err != nil {
		return 0, 0, fmt.Errorf("get the tunnel by %s back: %w", by.name, err)
	}
	return open, time.Since(began), nil
}

// timeProxy starts the reverse proxy, closes it with all connections, and starts it again at the same address.
func (w *workshop) timeProxy(ctx context.Context, upstream *url.URL) (open, back time.Duration, err error) {
	addr := "127.0.0.1:0"
	start := func() (took time.Duration, stop func() error, err error) {
		began := time.Now()
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return 0, nil, err
		}
		addr = l.Addr().String()
		srv := &http.Server{Handler: routes(proxyTo(upstream))}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		err = w.answered(ctx, addr, func() string { return "http://" + addr }, "")
		return time.Since(began), func() error {
			err := srv.Close()
			<-served
			return err
		}, err
	}
	open, stop, err := start()
	if err != nil {
		return 0, 0, fmt.Errorf("start the reverse proxy: %w", err)
	}
	if err := stop(); err != nil {
		return 0, 0, fmt.Errorf("stop the reverse proxy: %w", err)
	}
	back, stop, err = start()
	if err != nil {
		return 0, 0, fmt.Errorf("start the reverse proxy again: %w", err)
	}
	return open, back, stop()
}

// answered waits until a delivery to the public side is answered with success. over is a URL that does not count any more.
func (w *workshop) answered(ctx context.Context, addr string, public func() string, over string) error {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err := errors.New("there is no URL")
		if u := public(); u != "" && u != over {
			if err = w.deliverOnce(ctx, newLoad(addr, hostOf(u), deliveryPath, "", w.payload)); err == nil {
				return nil
			}
		}
		if ctx.Err() != nil || time.Since(began) > startTime {
			return errors.Join(ctx.Err(), fmt.Errorf("no delivery is answered within %v: %w", time.Since(began).Round(time.Second), err))
		}
	}
}

// deliverOnce sends one delivery over a connection of its own.
func (w *workshop) deliverOnce(ctx context.Context, l *load) error {
	senders, hangUp, err := l.dial(ctx, 1)
	if err != nil {
		return err
	}
	defer hangUp()
	if err := senders[0].conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	return senders[0].deliver()
}
