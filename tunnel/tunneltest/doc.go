// Package tunneltest has stand-ins for tunnel services. They run in the process and on loopback, and the real clients connect to them.
// Tests need no account, no network and no recorded traffic.
//
// [Edge] speaks the protocol of ngrok's agents (as golang.ngrok.com/ngrok/v2 v2.4.0 has it under internal/tunnel) and has a public
// side, so that a test can send a webhook the whole way. A program that uses the SDK connects with these options:
//
//	edge := tunneltest.NewEdge(t, tunneltest.Options{})
//	agent, err := ngrok.NewAgent(
//		ngrok.WithAuthtoken(tunneltest.DefaultToken),
//		ngrok.WithAgentConnectURL(edge.Addr()),
//		ngrok.WithAgentConnectCAs(edge.CAs()),
//	)
//
// For a program that reads ngrok.yml, such as ngrok's own agent, use [Edge.WriteConfig]. Send requests to the public URLs with
// [Edge.Client], or with any client at [Edge.PublicAddr] and [Edge.PublicTLSAddr].
//
// # Faults
//
// The edge misbehaves on command, as the service and networks do. A fault stays until it is switched off or [Edge.Heal] ends all faults.
// A fault with a duration or a number of times ends by itself.
//
//	Drop                    every session is cut; agents may come back at once
//	Refuse, RefuseUntil     every session is cut and new connections are reset
//	Hang                    connections are accepted, nothing is answered
//	FreezeHeartbeats        heartbeats stay unanswered, the rest works
//	BlackHole               bytes vanish both ways while TCP stays up
//	SessionLife             every session is cut soon after its endpoint is bound
//	AssignDomain            an agent that comes back gets another URL
//	StopEndpoint            the endpoint ends, with a message; the session stays
//	Latency                 requests take longer
//	CutRequests, CutAnswers bodies end after so many bytes, towards the agent and towards the client
//	FailAuth, FailBind      logging in or binding is refused with a code of ngrok's
//
// Some refusals need no command, because the edge makes them as the service does: a token that is not one of Options.Tokens
// (ERR_NGROK_105 and 107, which repeat it) or none (4018), more sessions than Options.MaxSessions (108), a domain that is not one of
// Options.Domains (319), a URL that another agent has online (334), a public URL that nobody has online (3200).
//
// A script is a few lines; [Edge.WaitFor] waits for its effect:
//
//	edge.Refuse(3 * time.Second)                    // down for 3 s
//	edge.AssignDomain("another.ngrok-free.test")    // and back at another URL
//	err := edge.WaitFor(ctx, func(urls []string, sessions int) bool {
//		return slices.Contains(urls, "https://another.ngrok-free.test")
//	})
//
// # Cloudflared
//
// [Cloudflared] is a stand-in for the program cloudflared, with the side of Cloudflare that it connects to. A test starts it as the program,
// from PATH or by its path. It crashes, hangs, loses its connections, refuses to start and ignores signals on command.
//
// # SSH
//
// [SSH] is an SSH server that forwards, and that says what sish, localhost.run, pinggy, serveo or a plain sshd say. It has the faults of the
// edge, and some of its own: another name (AssignName), a name that moves while the session is online (Move), the end of a free hour (Expire),
// forwards that are refused (FailForward), a service that says no URL (Silence), and another host key (ChangeHostKey).
//
// # Proxies
//
// [Proxy] is the proxy of a company network, for CONNECT and SOCKS5, with or without a password.
package tunneltest
