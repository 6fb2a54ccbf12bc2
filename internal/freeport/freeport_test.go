package freeport

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The system may give a port that it gives to anyone to another program, before the one that is told to listen there does so.
func TestFindNoPortOfTheSystems(t *testing.T) {
	lowest := 49152 // macOS, Windows
	if limits, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if lowest, err = strconv.Atoi(strings.Fields(string(limits))[0]); err != nil {
			t.Fatal(err)
		}
	}
	if lowest <= last {
		t.Skipf("this system gives ports from %d on to anyone", lowest)
	}
	for range 100 {
		port, err := Find()
		if err != nil || port >= lowest {
			t.Fatalf("port %d, %v; want one below %d", port, err, lowest)
		}
	}
}

func TestFree(t *testing.T) {
	address, err := Address()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if Free(port) {
		t.Errorf("%d is free while something listens on it", port)
	}
	l.Close()
	if !Free(port) {
		t.Errorf("%d is not free once nothing listens on it", port)
	}
}
