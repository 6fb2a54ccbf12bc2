package server

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/hubhook/hubhook/internal/text"
)

// listenLocal opens the local listener: on exactly the port that was asked for, or on the first free one of hubhook's range that isn't
// the inspector's.
func (s *settings) listenLocal() (net.Listener, error) {
	if s.portFixed {
		ln, err := net.Listen("tcp", net.JoinHostPort(s.localHost, strconv.Itoa(s.localPort)))
		return ln, listenError("listen for deliveries", err, "choose another port with --port, or leave it out to get the first free one from 7860")
	}
	reserved := firstInspectorPort
	if _, port, err := net.SplitHostPort(s.Inspector); err == nil {
		reserved, _ = strconv.Atoi(port)
	}
	return firstFree(s.localHost, firstPort, reserved, "listen for deliveries", "choose one with --port")
}

// listenInspector opens the private listener, nil where it is off.
func (s *settings) listenInspector() (net.Listener, error) {
	switch s.Inspector {
	case inspectorOff:
		return nil, nil
	case "":
		return firstFree("127.0.0.1", firstInspectorPort, 0, "listen for the inspector", "choose an address with --inspector, or turn it off with --inspector off")
	}
	ln, err := net.Listen("tcp", s.Inspector)
	return ln, listenError("listen for the inspector", err, "choose another address with --inspector, or leave it out to get the first free port from 7861")
}

func firstFree(host string, from, reserved int, act, hint string) (net.Listener, error) {
	for port := from; port <= lastPort; port++ {
		if port == reserved {
			continue
		}
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			return ln, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, listenError(act, err, hint)
		}
	}
	return nil, text.WithHint(fmt.Errorf("%s: all ports of %s from %d to %d are in use", act, host, from, lastPort), hint)
}

func listenError(act string, err error, hint string) error {
	if err == nil {
		return nil
	}
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && errors.As(err, &op) && op.Addr != nil:
		err = fmt.Errorf("%s: %s is in use by another process", act, op.Addr)
	case errors.Is(err, syscall.EACCES):
		err, hint = fmt.Errorf("%s: %w", act, err), "ports below 1024 need more rights; choose a higher one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err, hint = fmt.Errorf("%s: %w", act, err), "that address is not one of this machine"
	default:
		err = fmt.Errorf("%s: %w", act, err)
	}
	return text.WithHint(err, hint)
}

// baseURL is the URL of a listener as people on this machine would type it.
func baseURL(ln net.Listener) string {
	addr := ln.Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
}
