//go:build unix

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/testing/needs"
	"github.com/hubhook/hubhook/tunnel/tunneltest"
)

// The real hf installs the extension of packaging/hf-hubhook from a stand-in for GitHub, runs hubhook with it, and removes it. hf always asks
// github.com, so a proxy leads that name to the stand-in.
func TestHFExtension(t *testing.T) {
	t.Parallel()
	hf := filepath.Join(filepath.Dir(realPython(t)), "hf")
	h := newHome(t)
	cache := t.TempDir() // hf's own files, which no extension owns
	h.env = append(githubOnThisMachine(t), "HOME="+h.dir, "XDG_STATE_HOME="+filepath.Join(h.dir, "state"), "HF_HOME="+cache, "HF_HUB_DISABLE_TELEMETRY=1",
		"NO_COLOR=1", "PYTHONDONTWRITEBYTECODE=1", "PIP_NO_CACHE_DIR=1", "PIP_NO_INDEX=1", "PIP_FIND_LINKS="+wheels(t), "TMPDIR="+t.TempDir())
	version := h.do(t, 0, hubhook, "--version")

	// A python3 on PATH may be a script that looks for Python elsewhere, so take the program that made the tests' environment.
	base, err := exec.Command(realPython(t), "-c", "import sys; print(sys._base_executable, end='')").Output()
	if err != nil {
		t.Fatal(err)
	}
	onlyPython := path(t, map[string]string{"python3": string(base)})
	uvx := filepath.Join(t.TempDir(), "uvx")
	if err := os.WriteFile(uvx, []byte("#!/bin/sh\necho uvx \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "PATH="+onlyPython)
	h.do(t, 0, hf, "extensions", "install", "hubhook/hf-hubhook")
	for _, way := range []struct{ name, path, prints string }{
		{"hubhook on PATH", path(t, map[string]string{"hubhook": hubhook}), version},
		{"uvx on PATH", path(t, map[string]string{"uvx": uvx}), "uvx hubhook --version\n"},
		{"neither", onlyPython, "hf-hubhook: installing hubhook from PyPI into " + h.dir + "/.local/share/hf/extensions/hf-hubhook/venv\n" + version},
	} {
		h.env = append(h.env, "PATH="+way.path)
		if shown := h.do(t, 0, hf, "hubhook", "--version"); !strings.HasSuffix(shown, way.prints) {
			t.Errorf("%s: hf hubhook --version prints %q; want %q at the end", way.name, shown, way.prints)
		}
	}
	// What the last run installed is used again. hf passes arguments and the exit status on.
	if shown := h.do(t, 2, hf, "hubhook", "serve", "two words"); !strings.HasPrefix(shown, "hubhook: ") || !strings.Contains(shown, `"two words"`) {
		t.Errorf("hf hubhook serve 'two words' prints %q", shown)
	}
	h.do(t, 0, hf, "extensions", "remove", "hubhook")
	if left := files(t, h.dir); len(left) > 0 {
		t.Errorf("hf extensions remove hubhook leaves %q", left)
	}
}

// do runs a program that has to end with that status, and returns what it prints.
func (h *home) do(t *testing.T, status int, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = filepath.Join(h.dir, "work"), h.env
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != status {
		t.Fatalf("%s: %v; want status %d\n%s", strings.Join(cmd.Args, " "), err, status, out)
	}
	return string(out)
}

// path returns a PATH with a shell and these programs.
func path(t *testing.T, programs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sh", "dirname"} {
		programs[name] = needs.Program(t, name)
	}
	for name, program := range programs {
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// files lists all files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// wheels returns a directory with hubhook's wheel for this machine, made of the binary under test.
func wheels(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "run", "./internal/tools/wheel", "-binary", hubhook, "-version", "1.2.3", "-os", runtime.GOOS, "-arch", runtime.GOARCH, "-dir", dir)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a wheel: %v\n%s", err, out)
	}
	return dir
}

// githubOnThisMachine serves packaging/hf-hubhook as the repository hubhook/hf-hubhook on GitHub, and returns the variables that lead
// programs there. hf also asks PyPI for its own newest version, and the Hub for the agents that may run it; it is told nothing.
func githubOnThisMachine(t *testing.T) []string {
	t.Helper()
	const repo = "/hubhook/hf-hubhook"
	mux := http.NewServeMux()
	mux.Handle("raw.githubusercontent.com"+repo+"/HEAD/", http.StripPrefix(repo+"/HEAD/", http.FileServer(http.Dir("../../packaging/hf-hubhook"))))
	mux.HandleFunc("HEAD github.com"+repo, func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET github.com"+repo+".git/info/refs", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "001e# service=git-upload-pack\n0000015500%040x HEAD\x00multi_ack\n", 1)
	})
	mux.HandleFunc("pypi.org/", http.NotFound)
	mux.HandleFunc("huggingface.co/", http.NotFound)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("hf asks for %s https://%s%s", r.Method, r.Host, r.URL)
		http.NotFound(w, r)
	})
	names := []string{"github.com", "raw.githubusercontent.com", "pypi.org", "huggingface.co"}
	certificate, err := selfSigned(names)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	hosts := map[string]string{}
	for _, name := range names {
		hosts[name+":443"] = server.Listener.Addr().String()
	}
	proxy := tunneltest.NewProxy(t, tunneltest.ProxyOptions{Hosts: hosts})
	t.Cleanup(func() {
		for _, asked := range proxy.Asked() {
			if hosts[asked] == "" {
				t.Errorf("hf asks %s", asked)
			}
		}
	})
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"HTTPS_PROXY=" + proxy.URL().String(), "SSL_CERT_FILE=" + trusted}
}

// selfSigned makes a certificate for these names.
func selfSigned(names []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
