package ssh

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/tunnel"
)

// keys are what the user logs in with.
type keys struct {
	anonymous bool
	socket    string // of the agent, or empty
	named     bool   // the one file was named by the user, and nothing else counts

	mu    sync.Mutex
	files []*keyFile
}

// keyFile is a private key in a file.
type keyFile struct {
	path   string
	public xssh.PublicKey // nil where the key is locked and its public half is nowhere
	signer xssh.Signer    // nil where the key is locked
	locked []byte         // the file's text, as long as it is locked
}

// lockedError says that the server would take a key that needs a passphrase.
type lockedError struct{ file *keyFile }

func (e *lockedError) Error() string { return e.file.path + " needs its passphrase" }

// newKeys reads the key files. Its errors are of type *tunnel.Error.
func newKeys(c Config, anonymous bool) (*keys, error) {
	k := &keys{anonymous: anonymous}
	home := cmp.Or(c.Getenv(env.Home), c.Getenv(env.UserProfile))
	if c.KeyFile != "" {
		path := c.KeyFile
		if rest, ok := strings.CutPrefix(path, "~/"); ok && home != "" {
			path = filepath.Join(home, rest)
		}
		file, err := readKey(path)
		if err != nil {
			return nil, configError("read --ssh-key", err.Error(), "name the file of a private key that ssh-keygen made, not the .pub beside it")
		}
		k.anonymous, k.named, k.files = false, true, []*keyFile{file}
		return k, nil
	}
	if anonymous {
		// Some services take any key, but want one. A new key, made for this run, tells them nothing about the user.
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, configError("make a key for the moment", err.Error(), "name one with --ssh-key")
		}
		signer, err := xssh.NewSignerFromKey(private)
		if err != nil {
			return nil, configError("make a key for the moment", err.Error(), "name one with --ssh-key")
		}
		k.files = []*keyFile{{public: signer.PublicKey(), signer: signer}}
		return k, nil
	}
	k.socket = c.Getenv(env.SSHAuthSock)
	if home == "" {
		return k, nil
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		// Leave out a file that is missing or has no key. If the server takes none of the others, the error names the keys there were.
		if file, err := readKey(filepath.Join(home, ".ssh", name)); err == nil {
			k.files = append(k.files, file)
		}
	}
	return k, nil
}

func readKey(path string) (*keyFile, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, text.FileCause(err))
	}
	signer, err := xssh.ParsePrivateKey(content)
	if locked, is := errors.AsType[*xssh.PassphraseMissingError](err); is {
		return &keyFile{path: path, public: cmp.Or(locked.PublicKey, publicHalf(path)), locked: content}, nil
	}
	if err != nil {
		// The parser's own words could repeat something of the key.
		return nil, fmt.Errorf("%s is no private key", path)
	}
	return &keyFile{path: path, public: signer.PublicKey(), signer: signer}, nil
}

// publicHalf reads the file beside a private key, nil where there is none.
func publicHalf(path string) xssh.PublicKey {
	content, err := os.ReadFile(path + ".pub")
	if err != nil {
		return nil
	}
	public, _, _, _, err := xssh.ParseAuthorizedKey(content)
	if err != nil {
		return nil
	}
	return public
}

// unlock asks for the passphrase of a key, three times at most. Its errors are of type *tunnel.Error.
func (k *keys) unlock(ctx context.Context, file *keyFile, ask func(context.Context, string) (string, error)) error {
	failed := func(cause string, err error) error {
		return &tunnel.Error{Op: openAct, Cause: cause, Fix: "run ssh-add " + file.path + ", or name a key without a passphrase with --ssh-key", Err: err}
	}
	if ask == nil {
		return failed(file.path+" needs its passphrase, and there is no terminal to ask for it", nil)
	}
	question := "Passphrase for " + file.path
	for range 3 {
		passphrase, err := ask(ctx, question)
		if err != nil {
			return failed(file.path+" needs its passphrase: "+err.Error(), err)
		}
		if passphrase == "" {
			break
		}
		signer, err := xssh.ParsePrivateKeyWithPassphrase(file.locked, []byte(passphrase))
		if err == nil {
			k.mu.Lock()
			file.signer, file.public, file.locked = signer, signer.PublicKey(), nil
			k.mu.Unlock()
			return nil
		}
		question = "That is not it. Passphrase for " + file.path
	}
	return failed("that is not the passphrase of "+file.path, nil)
}

// login is one try to log in.
type login struct {
	keys   *keys
	agent  net.Conn // nil without one
	shown  []string // the keys that the server was shown
	locked *keyFile // the first that the server would take
	takes  []string // the methods that the server takes
	asked  bool     // the server asked a question that is for a person
}

// begin connects to the agent, where there is one.
func (k *keys) begin(ctx context.Context) *login {
	l := &login{keys: k}
	if k.socket != "" {
		if conn, err := new(net.Dialer).DialContext(ctx, "unix", k.socket); err == nil {
			l.agent = conn
			context.AfterFunc(ctx, func() { conn.Close() }) // an agent that hangs holds nothing up
		}
	}
	return l
}

func (l *login) end() {
	if l.agent != nil {
		l.agent.Close()
	}
}

// methods are the ways to log in. A server that wants nothing is asked without any first.
func (l *login) methods() []xssh.AuthMethod {
	methods := []xssh.AuthMethod{xssh.PublicKeysCallback(l.signers)}
	answers := func(_, _ string, questions []string, _ []bool) ([]string, error) {
		if len(questions) > 0 && !l.keys.anonymous {
			l.asked = true
			return nil, errors.New("the server asks a question")
		}
		return make([]string, len(questions)), nil
	}
	methods = append(methods, xssh.KeyboardInteractive(answers))
	if l.keys.anonymous {
		methods = append(methods, xssh.Password(""))
	}
	return methods
}

// note notes what the server takes, and leaves the choice to methods.
func (l *login) note(c *xssh.ClientAuthContext) (xssh.AuthMethod, error) {
	if len(c.AllowedMethods) > 0 {
		l.takes = c.AllowedMethods
	}
	return nil, nil
}

// signers are the keys: those of the agent, then those of files, and last those that need a passphrase.
func (l *login) signers() ([]xssh.Signer, error) {
	var signers []xssh.Signer
	known := func(key xssh.PublicKey) bool {
		return slices.ContainsFunc(signers, func(s xssh.Signer) bool { return string(s.PublicKey().Marshal()) == string(key.Marshal()) })
	}
	if l.agent != nil {
		// An agent that does not answer has no keys.
		held, _ := agent.NewClient(l.agent).Signers()
		for _, signer := range held {
			signers = append(signers, signer)
			l.shown = append(l.shown, "the agent's "+signer.PublicKey().Type())
		}
	}
	l.keys.mu.Lock()
	defer l.keys.mu.Unlock()
	for _, locked := range []bool{false, true} {
		for _, file := range l.keys.files {
			if file.public == nil || (file.signer == nil) != locked || known(file.public) {
				continue
			}
			if file.path != "" {
				l.shown = append(l.shown, file.path)
			}
			if locked {
				signers = append(signers, &lockedSigner{login: l, file: file})
			} else {
				signers = append(signers, file.signer)
			}
		}
	}
	return signers, nil
}

// lockedSigner shows the server the public half of a key that needs a passphrase. It asks the user only if the server would take the key.
type lockedSigner struct {
	login *login
	file  *keyFile
}

func (s *lockedSigner) PublicKey() xssh.PublicKey { return s.file.public }

func (s *lockedSigner) Sign(rand io.Reader, data []byte) (*xssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

func (s *lockedSigner) SignWithAlgorithm(io.Reader, []byte, string) (*xssh.Signature, error) {
	if s.login.locked == nil {
		s.login.locked = s.file
	}
	return nil, &lockedError{s.file}
}

// unusable names the usual key files that exist and could not be used, "" for none.
func (k *keys) unusable() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, file := range k.files {
		if file.public == nil {
			return file.path + " needs its passphrase, and " + file.path + ".pub is not there"
		}
	}
	return ""
}

// isMissing reports whether a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
