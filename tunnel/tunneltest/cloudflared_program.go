package tunneltest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v4"
)

// RunCloudflared is the stand-in's program where a [Cloudflared] has started this process. Then it returns the exit status. Otherwise it
// does nothing and ran is false. args are the arguments of the process, without its name.
func RunCloudflared(args []string) (status int, ran bool) {
	edge := os.Getenv(CloudflaredVariable)
	if edge == "" {
		return 0, false
	}
	p := &cloudflaredProgram{edge: edge}
	err := p.run(args)
	if err == nil {
		return 0, true
	}
	if !errors.Is(err, errRefused) {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1, true
}

// errRefused ends a program that has said why.
var errRefused = errors.New("the other side has refused the tunnel")

// cloudflaredProgram is the stand-in for the program cloudflared. The flags, the order of its steps, its answers and its log lines are
// those of cloudflared 2025 (cmd/cloudflared/tunnel, metrics).
type cloudflaredProgram struct {
	edge    string // the URL of the stand-in's other side
	origin  string // where requests go
	metrics string
	config  string
	named   bool

	tunnel string // of the configuration
	host   string
	state  connection
	hung   chan struct{} // closed: nothing is answered any more
	flight sync.WaitGroup
}

// connection is whether the program is connected to Cloudflare. /ready reports each loss at least once, however short it was, so that a client
// that asks now and then sees all of them.
type connection struct {
	mu   sync.Mutex
	up   bool
	lost bool // and nobody has been told yet
}

func (c *connection) set(up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = c.lost || c.up && !up
	c.up = up
}

func (c *connection) look() (up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	up = c.up && !c.lost
	c.lost = false
	return up
}

func (p *cloudflaredProgram) log(level, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s %s\n", time.Now().UTC().Format(time.RFC3339), level, fmt.Sprintf(format, args...))
}

// parse reads the arguments. "run" makes it a named tunnel.
func (p *cloudflaredProgram) parse(args []string) error {
	if len(args) == 0 || args[0] != "tunnel" {
		return errors.New("No help topic for '" + strings.Join(args, " ") + "'")
	}
	for args = args[1:]; len(args) > 0; args = args[1:] {
		value := map[string]*string{"--url": &p.origin, "--metrics": &p.metrics, "--config": &p.config}[args[0]]
		switch {
		case args[0] == "run":
			p.named = true
		case args[0] == "--no-autoupdate":
		case value == nil:
			return errors.New("Incorrect Usage: flag provided but not defined: " + strings.TrimPrefix(args[0], "-"))
		case len(args) == 1:
			return errors.New("Incorrect Usage: flag needs an argument: " + strings.TrimPrefix(args[0], "-"))
		default:
			*value, args = args[1], args[1:]
		}
	}
	return nil
}

// readConfig reads the configuration of a named tunnel.
func (p *cloudflaredProgram) readConfig() error {
	text, err := os.ReadFile(p.config)
	if err != nil {
		return err
	}
	var file struct {
		Tunnel      string `yaml:"tunnel"`
		Credentials string `yaml:"credentials-file"`
		Ingress     []struct {
			Service string `yaml:"service"`
		} `yaml:"ingress"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return fmt.Errorf("error parsing YAML in config file at %s: %w", p.config, err)
	}
	if _, err := os.Stat(file.Credentials); err != nil {
		//lint:ignore ST1005 the words are cloudflared's
		return fmt.Errorf("Tunnel credentials file '%s' doesn't exist or is not a file", file.Credentials)
	}
	p.tunnel = file.Tunnel
	for _, rule := range file.Ingress {
		if strings.HasPrefix(rule.Service, "http://") {
			p.origin = rule.Service
			break
		}
	}
	return nil
}

func (p *cloudflaredProgram) run(args []string) error {
	if len(args) == 1 && args[0] == "--version" {
		_, err := fmt.Fprintln(os.Stderr, "cloudflared version 2025.1.0 (stand-in)")
		return err
	}
	err := p.parse(args)
	if err == nil && p.named {
		err = p.readConfig()
	}
	if err != nil {
		return err
	}
	origin, err := url.Parse(p.origin)
	if err != nil {
		return err
	}
	p.hung = make(chan struct{})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	if !p.named {
		p.log("INF", "Requesting new quick Tunnel on trycloudflare.com...")
	}
	started, err := p.register(ln.Addr().String())
	if err != nil {
		return fmt.Errorf("failed to request quick Tunnel: %w", err)
	}
	if started.Refused != "" {
		level, text, _ := strings.Cut(started.Refused, " ")
		p.log(level, "%s", text)
		return errRefused
	}
	p.host = started.Hostname
	if !p.named {
		p.log("INF", "|  https://%s  |", p.host)
	}
	metrics, err := net.Listen("tcp", p.metrics)
	if err != nil {
		p.log("ERR", "Error opening metrics server listener error=%q", err)
		//lint:ignore ST1005 the words are cloudflared's
		return fmt.Errorf("Error opening metrics server listener: %w", err)
	}
	go http.Serve(metrics, p.metricsHandler())
	p.log("INF", "Starting metrics server on %s/metrics", metrics.Addr())
	proxy := httputil.NewSingleHostReverseProxy(origin)
	setUp(proxy)
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.flight.Add(1)
		defer p.flight.Done()
		if p.isHung() {
			<-r.Context().Done()
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	return p.stayConnected(started, stop)
}

func (p *cloudflaredProgram) register(proxy string) (s cloudflaredStarted, err error) {
	body, err := json.Marshal(cloudflaredStart{Tunnel: p.tunnel, Proxy: proxy, PID: os.Getpid()})
	if err != nil {
		return s, err
	}
	resp, err := http.Post(p.edge+"/tunnel", "application/json", bytes.NewReader(body))
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// stayConnected obeys the stand-in's other side until that is gone, or a signal ends the program.
func (p *cloudflaredProgram) stayConnected(started cloudflaredStarted, stop <-chan os.Signal) error {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/connect/%d", p.edge, started.Run), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	commands := make(chan string)
	go func() {
		defer close(commands)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			commands <- lines.Text()
		}
	}()
	for {
		select {
		case command := <-commands:
			switch command {
			case "up":
				p.log("INF", "Registered tunnel connection connIndex=0 location=test01 protocol=quic")
				p.state.set(true)
			case "down":
				p.log("ERR", `Serve tunnel error error="timeout: no recent network activity" connIndex=0`)
				p.state.set(false)
			case "hang":
				close(p.hung)
			case "crash":
				return errors.New("panic: the stand-in was told to crash, with TUNNEL_TOKEN=eyJhIjoic2VjcmV0LW9mLXR1bm5lbCJ9")
			default:
				return errors.New("the stand-in's other side has gone")
			}
		case <-stop:
			if started.Deaf || p.isHung() {
				continue
			}
			p.log("INF", "Initiating graceful shutdown due to signal terminated ...")
			leave()
			p.state.set(false)
			p.flight.Wait()
			return nil
		}
	}
}

func (p *cloudflaredProgram) isHung() bool {
	select {
	case <-p.hung:
		return true
	default:
		return false
	}
}

func (p *cloudflaredProgram) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, r *http.Request, status int, body any) {
		if p.isHung() {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(body)
	}
	mux.HandleFunc("/ready", func(w http.ResponseWriter, r *http.Request) {
		status, connections := http.StatusServiceUnavailable, 0
		if p.state.look() {
			status, connections = http.StatusOK, 1
		}
		answer(w, r, status, map[string]any{"status": status, "readyConnections": connections, "connectorId": "00000000-0000-0000-0000-000000000000"})
	})
	mux.HandleFunc("/quicktunnel", func(w http.ResponseWriter, r *http.Request) {
		host := p.host
		if p.named {
			host = ""
		}
		answer(w, r, http.StatusOK, map[string]any{"hostname": host})
	})
	return mux
}
