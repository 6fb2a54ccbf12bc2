// Package freeport finds TCP ports of loopback for programs that are told where to listen.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from this range. Linux gives ports from 32768 on, and macOS and Windows ports from 49152 on, to whoever listens on port
// 0 or connects. There another program could get the port before the one that is told to listen on it.
const (
	first = 20000
	last  = 29999
)

// tries is how many ports of the range are tried.
const tries = 100

// Find returns a port on which nothing listens on 127.0.0.1.
func Find() (int, error) {
	for range tries {
		if port := first + rand.IntN(last-first+1); Free(port) {
			return port, nil
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port of 127.0.0.1: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// Address is Find, and returns the port with its host: "127.0.0.1:20000".
func Address() (string, error) {
	port, err := Find()
	if err != nil {
		return "", err
	}
	return address(port), nil
}

// Free reports whether nothing listens on a port of 127.0.0.1 now.
func Free(port int) bool {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
