package ssh

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
)

// hostKeys knows which key a server must have. It reads the user's known_hosts, the machine's, and hubhook's own. Hubhook's own has the keys
// that were trusted on first use.
type hostKeys struct {
	addr  string
	files []string
	own   string // "" where there is no place for it

	mu      sync.Mutex
	trusted xssh.PublicKey // on first use in this process, whatever became of the file
}

func newHostKeys(getenv func(string) string, addr string) *hostKeys {
	h := &hostKeys{addr: addr, files: []string{"/etc/ssh/ssh_known_hosts"}}
	if home := cmp.Or(getenv(env.Home), getenv(env.UserProfile)); home != "" {
		h.files = append(h.files, filepath.Join(home, ".ssh", "known_hosts"))
	}
	if dir, err := env.State(func(name string) (string, bool) { value := getenv(name); return value, value != "" }); err == nil {
		h.own = filepath.Join(dir, "known_hosts")
		h.files = append(h.files, h.own)
	}
	return h
}

// hostKeyError is a host key that must not be trusted.
type hostKeyError struct {
	cause string
	fix   string
}

func (e *hostKeyError) Error() string { return e.cause }

// known reads the files. A file that can't be read is an error: if it counted as empty, a changed key would be trusted.
func (h *hostKeys) known() (xssh.HostKeyCallback, error) {
	var there []string
	for _, file := range h.files {
		if _, err := os.Stat(file); err == nil {
			there = append(there, file)
		} else if !isMissing(err) {
			return nil, fmt.Errorf("read the known hosts: %w", err)
		}
	}
	return knownhosts.New(there...)
}

// wanted are the keys that the files have for the server.
func (h *hostKeys) wanted() []knownhosts.KnownKey {
	check, err := h.known()
	if err != nil {
		return nil // the check says so
	}
	// No server has this key, so the error names the keys that the server should have.
	nobody, err := xssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	if e, ok := errors.AsType[*knownhosts.KeyError](check(h.addr, nowhere, nobody)); ok {
		return e.Want
	}
	return nil
}

var nowhere = &net.TCPAddr{IP: net.IPv4zero}

// algorithms returns the algorithms of known keys first, so that a server with several keys shows one that is known. Certificates count only
// if a line for the server names an authority.
func (h *hostKeys) algorithms() []string {
	all := xssh.SupportedAlgorithms().HostKeys
	var first, certificates, others []string
	for _, algorithm := range all {
		if strings.Contains(algorithm, "-cert-") {
			certificates = append(certificates, algorithm)
		} else {
			others = append(others, algorithm)
		}
	}
	want := h.wanted()
	h.mu.Lock()
	if h.trusted != nil {
		want = append(want, knownhosts.KnownKey{Key: h.trusted})
	}
	h.mu.Unlock()
	authority := false
	for _, key := range want {
		if key.Filename != "" && strings.HasPrefix(lineOf(key.Filename, key.Line), "@cert-authority") {
			authority = true
			continue
		}
		for _, algorithm := range others {
			if algorithm == key.Key.Type() || key.Key.Type() == xssh.KeyAlgoRSA && strings.HasPrefix(algorithm, "rsa-") {
				first = append(first, algorithm)
			}
		}
	}
	if authority {
		first = append(certificates, first...)
	}
	for _, algorithm := range others {
		if !slices.Contains(first, algorithm) {
			first = append(first, algorithm)
		}
	}
	return first
}

// lineOf is a line of a file, counted from 1.
func lineOf(file string, n int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(content) {
		if n--; n == 0 {
			return strings.TrimSpace(string(line))
		}
	}
	return ""
}

// check returns the check of a server's key. If no key of the server is known, check keeps this one, trusts it from then on, and tells say.
// With say nil it trusts the key without keeping it.
func (h *hostKeys) check(say func(string)) xssh.HostKeyCallback {
	return func(addr string, remote net.Addr, key xssh.PublicKey) error {
		known, err := h.known()
		if err != nil {
			return &hostKeyError{cause: clean(err.Error()), fix: "correct that file, or its permissions"}
		}
		err = known(addr, remote, key)
		if err == nil {
			return nil
		}
		if revoked, ok := errors.AsType[*knownhosts.RevokedError](err); ok {
			return &hostKeyError{
				cause: fmt.Sprintf("the host key of %s is revoked by line %d of %s", addr, revoked.Revoked.Line, revoked.Revoked.Filename),
				fix:   "use another server: somebody else may have this one's key",
			}
		}
		unknown, ok := errors.AsType[*knownhosts.KeyError](err)
		if !ok {
			return &hostKeyError{cause: "the host key of " + addr + " cannot be checked: " + clean(err.Error()), fix: "compare it with what the server's owner says, and put it into ~/.ssh/known_hosts"}
		}
		if len(unknown.Want) > 0 {
			return changed(addr, key, unknown.Want[0])
		}
		return h.trust(addr, key, say)
	}
}

func changed(addr string, key xssh.PublicKey, was knownhosts.KnownKey) error {
	return &hostKeyError{
		cause: fmt.Sprintf("THE HOST KEY OF %s HAS CHANGED: it is %s now, and line %d of %s has %s. Somebody may stand between here and there, so nothing is sent",
			addr, xssh.FingerprintSHA256(key), was.Line, was.Filename, xssh.FingerprintSHA256(was.Key)),
		fix: fmt.Sprintf("ask the server's owner; only if the change is theirs, remove line %d of %s", was.Line, was.Filename),
	}
}

// trust is for a server that nothing is known of.
func (h *hostKeys) trust(addr string, key xssh.PublicKey, say func(string)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trusted != nil {
		if string(h.trusted.Marshal()) == string(key.Marshal()) {
			return nil
		}
		return &hostKeyError{
			cause: fmt.Sprintf("THE HOST KEY OF %s HAS CHANGED since this program began: it is %s now, and was %s. Somebody may stand between here and there, so nothing is sent",
				addr, xssh.FingerprintSHA256(key), xssh.FingerprintSHA256(h.trusted)),
			fix: "ask the server's owner before you start again",
		}
	}
	if say == nil {
		return nil
	}
	h.trusted = key
	kept := "kept in " + h.own
	if err := h.keep(addr, key); err != nil {
		kept = "for as long as this program runs: it could not be kept (" + clean(err.Error()) + ")"
	}
	say(fmt.Sprintf("The host key of %s is not known yet. From now on it is trusted: %s %s, %s", addr, key.Type(), xssh.FingerprintSHA256(key), kept))
	return nil
}

// keep adds the key to hubhook's own file, never to the user's.
func (h *hostKeys) keep(addr string, key xssh.PublicKey) error {
	if h.own == "" {
		return errors.New("there is no home directory")
	}
	if err := os.MkdirAll(filepath.Dir(h.own), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(h.own, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(knownhosts.Line([]string{knownhosts.Normalize(addr)}, key) + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", h.own, text.FileCause(err))
	}
	return nil
}
