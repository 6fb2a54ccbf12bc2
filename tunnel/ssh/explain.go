package ssh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/tunnel"
)

// unreachableError is a connection that could not be made.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// loginError is a handshake that failed.
type loginError struct {
	err   error
	login *login
}

func (e *loginError) Error() string { return e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// explain puts an error of a try into words.
func (d *dialer) explain(err error) *tunnel.Error {
	if known, ok := errors.AsType[*tunnel.Error](err); ok {
		return known
	}
	title := d.service.title
	e := &tunnel.Error{Op: openAct, Cause: clean(err.Error()), Fix: "check the network between here and " + d.service.address(), Temporary: true, Err: plainError(err)}
	if _, ok := errors.AsType[*unreachableError](err); ok {
		e.Cause = title + " cannot be reached: " + clean(err.Error())
		return e
	}
	if key, ok := errors.AsType[*hostKeyError](err); ok {
		e.Cause, e.Fix = key.cause, key.fix
		e.Temporary, e.Refused, e.Final = false, true, true
		return e
	}
	failed, ok := errors.AsType[*loginError](err)
	if !ok {
		return e
	}
	if file := failed.login.locked; file != nil {
		e.Cause, e.Fix = file.path+" needs its passphrase", "run ssh-add "+file.path
		e.Temporary, e.Refused, e.Final, e.Err = false, true, true, &lockedError{file}
		return e
	}
	if !strings.Contains(err.Error(), "unable to authenticate") && !failed.login.asked {
		e.Cause = title + " does not complete the SSH handshake: " + clean(strings.TrimPrefix(err.Error(), "ssh: handshake failed: "))
		return e
	}
	d.explainLogin(e, failed.login)
	return e
}

// explainLogin says why the server does not let the user in.
func (d *dialer) explainLogin(e *tunnel.Error, l *login) {
	who := d.service.user + "@" + d.service.host
	e.Refused, e.Final, e.Temporary = true, true, false
	if d.loggedIn {
		// The server has let us in before, so this may pass: its list of users may be out of reach, or the agent locked.
		e.Final, e.Temporary = false, true
	}
	shown := strings.Join(l.shown, ", ")
	if shown == "" {
		shown = "nothing, for there is no key"
	}
	if without := d.keys.unusable(); without != "" {
		shown += " (" + without + ")"
	}
	e.Cause = fmt.Sprintf("%s does not let %s in; it was shown %s", d.service.title, d.service.user, shown)
	e.Fix = fmt.Sprintf("put the public key into ~/.ssh/authorized_keys there (ssh-copy-id %s), or name another key with --ssh-key", who)
	switch {
	case d.keys.anonymous:
		e.Cause = d.service.title + " does not let anyone in who has no account there"
		e.Fix = "register a key there and say --ssh YOU@" + d.service.host + ", or take another server"
	case len(l.takes) > 0 && !slices.Contains(l.takes, "publickey"):
		e.Cause = fmt.Sprintf("%s takes no keys, only: %s", d.service.title, clean(strings.Join(l.takes, ", ")))
		e.Fix = "let the server accept keys; hubhook sends no passwords"
	}
}

// refusal is the error of a forward that the server does not grant.
func (d *dialer) refusal(s *session, ask forwardRequest, words string) *tunnel.Error {
	what := "forward"
	if ask.Port != 0 {
		what = fmt.Sprintf("forward its port %d", ask.Port)
	}
	if !d.isPlain(s) && ask.Host != "localhost" && ask.Host != "" {
		what = "give the name " + ask.Host
	}
	e := &tunnel.Error{Op: openAct, Cause: d.service.title + " does not " + what, Refused: true, Err: errors.New("the forward is refused")}
	if words = clean(words); words == "" {
		words = s.words.String()
	}
	if words != "" {
		e.Cause += ": " + words
	}
	if d.isPlain(s) && ask.Port == 0 || !d.isPlain(s) && (ask.Host == "localhost" || ask.Host == "") {
		e.Final = true
		e.Fix = fmt.Sprintf("have %s allow it (AllowTcpForwarding, and permitlisten of the key, in an sshd)", d.service.title)
		return e
	}
	// Our own last session may have it still.
	e.Temporary = true
	e.Fix = "stop what has it there, or name another with --ssh-forward or --url"
	return e
}

// otherName is the error of a service that gives another name than the one that it was asked for.
func (d *dialer) otherName(wanted, given string, was bool) *tunnel.Error {
	e := &tunnel.Error{
		Op:      openAct,
		Cause:   fmt.Sprintf("%s gives %s and not %s", d.service.title, clean(given), wanted),
		Fix:     "leave --url out, or find out who has that name",
		Refused: true, Temporary: true,
		Err: errors.New("another name"),
	}
	if was {
		e.Fix = "nothing: hubhook asks for the old name again before it takes another"
	}
	return e
}

// lossOf is why a session was lost.
func (d *dialer) lossOf(err error) *tunnel.Error {
	e := d.explain(err)
	lost := *e
	lost.Op = keepAct
	lost.Cause = "the connection to " + d.service.title + " was lost: " + e.Cause
	return &lost
}

// plainError keeps what errors.Is can tell of an error, and no more than a clean text of it.
func plainError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.New(clean(err.Error()))
}
