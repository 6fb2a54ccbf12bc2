package tunnel

import (
	"errors"
	"strings"
)

// ErrNoCredential says that the provider needs a credential and found none, or that the service says it got none.
var ErrNoCredential = errors.New("no credential was found")

// Error is why a tunnel could not be opened or was lost, in words for the person at the screen. No text of it contains a token.
type Error struct {
	// Op is what was tried, as in "open the ngrok tunnel".
	Op string
	// Code is the provider's own code, "ERR_NGROK_107" for example, or empty. Where the provider gave several, it is the first that
	// waiting does not fix; Cause names the others.
	Code string
	// Cause is what went wrong, in a sentence without a full stop.
	Cause string
	// Source is where the token came from that the provider was shown, "NGROK_AUTHTOKEN" for example. It is empty where the
	// provider was not reached or says that it got none.
	Source string
	// Fix is the one thing to do about it.
	Fix string
	// Temporary says that the same call may succeed later with nothing changed here: a network that was down, say.
	Temporary bool
	// Refused says that the service was reached and said no. A refusal that is also Temporary can be due to this program's own last
	// session, which the service still considers alive. A tunnel that is refused asks again for a minute and then stops.
	Refused bool
	// Final says that asking again does not help: a tunnel that meets it while it is open stops.
	Final bool
	// Err is the error behind it, redacted. It can be nil.
	Err error
}

// Error returns what failed and why in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	if e.Code != "" {
		b.WriteString(e.Code)
		b.WriteString(": ")
	}
	b.WriteString(e.Cause)
	return b.String()
}

// Hint returns the one thing to do about it, in a line.
func (e *Error) Hint() string { return e.Fix }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
