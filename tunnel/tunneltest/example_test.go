package tunneltest_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"

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
