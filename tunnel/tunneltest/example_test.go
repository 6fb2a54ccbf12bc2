package tunneltest_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"golang.ngrok.com/ngrok/v2"

	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// A program that uses the ngrok SDK is run against the edge with three options of the agent. Nothing leaves the machine.
func Example() {
	edge, err := tunneltest.StartEdge(tunneltest.Options{Domain: "me.ngrok-free.app"})
	if err != nil {
		log.Fatal(err)
	}
	defer edge.Close()

	agent, err := ngrok.NewAgent(
		ngrok.WithAgentConnectURL(edge.Addr()),
		ngrok.WithAgentConnectCAs(edge.CAs()),
		ngrok.WithAuthtoken(tunneltest.DefaultToken),
		ngrok.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		log.Fatal(err)
	}
	session, end := context.WithCancel(context.Background())
	defer end()
	listener, err := agent.Listen(session)
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s, asked for over %s\n", r.Method, r.URL, r.Header.Get("X-Forwarded-Proto"))
	}))

	resp, err := edge.Client().Get("https://me.ngrok-free.app/hello")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s%s", body, listener.URL())
	// Output:
	// GET /hello, asked for over https
	// https://me.ngrok-free.app
}

// A script of faults is a few lines: the service goes away for a moment, and is back with another URL.
func ExampleEdge_Refuse() {
	edge, err := tunneltest.StartEdge(tunneltest.Options{Domain: "before.ngrok-free.test"})
	if err != nil {
		log.Fatal(err)
	}
	defer edge.Close()
	agent, err := ngrok.NewAgent(
		ngrok.WithAgentConnectURL(edge.Addr()),
		ngrok.WithAgentConnectCAs(edge.CAs()),
		ngrok.WithAuthtoken(tunneltest.DefaultToken),
		ngrok.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		log.Fatal(err)
	}
	session, end := context.WithCancel(context.Background())
	defer end()
	listener, err := agent.Listen(session)
	if err != nil {
		log.Fatal(err)
	}

	edge.AssignDomain("after.ngrok-free.test")
	edge.Refuse(200 * time.Millisecond)
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := edge.WaitFor(limit, func(urls []string, _ int) bool {
		return slices.Contains(urls, "https://after.ngrok-free.test")
	}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("online:", edge.URLs()[0])
	fmt.Println("the SDK says:", listener.URL())
	// Output:
	// online: https://after.ngrok-free.test
	// the SDK says: https://before.ngrok-free.test
}

// A proxy that asks for a password. Hosts gives the edge's loopback address a name.
func ExampleProxy() {
	edge, err := tunneltest.StartEdge(tunneltest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer edge.Close()
	proxy, err := tunneltest.StartProxy(tunneltest.ProxyOptions{
		User:     "me",
		Password: "secret",
		Hosts:    map[string]string{"hooks.example.com:443": edge.PublicTLSAddr()},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Close()

	client := &http.Client{Transport: &http.Transport{
		Proxy:           http.ProxyURL(proxy.URL()),
		TLSClientConfig: &tls.Config{RootCAs: edge.CAs()},
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://hooks.example.com/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Header.Get("Ngrok-Error-Code"), "after asking for", proxy.Asked())
	// Output: ERR_NGROK_3200 after asking for [hooks.example.com:443]
}
