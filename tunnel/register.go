package tunnel

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Registration describes a provider to programs whose users choose one by its name. A provider registers itself when its package
// is imported, as database drivers do.
type Registration struct {
	// Name is the word that users choose the provider by.
	Name string
	// Default says that this provider is the one for users who name none. One provider at most says so.
	Default bool
	// Usage says in a few lines where the public URL comes from and what to set up first, for the help of a command.
	Usage string
	// Flags are the provider's own settings.
	Flags []Flag
	// New returns the provider with these settings. It reads nothing else and connects to nothing.
	New func(Settings) Provider
	// NoCredential says in a clause what is missing where Open fails with [ErrNoCredential], and NoCredentialHint what to do about it.
	NoCredential, NoCredentialHint string
	// HasCredential reports, without any network, whether the provider would open a tunnel with these settings rather than fail with
	// [ErrNoCredential]. Nil: it always would.
	HasCredential func(Settings) bool
	// Ways are what a program offers a user who has neither chosen a provider nor a credential for the default one.
	Ways []Way
	// Header is sent with the request of a [Proof], so that the provider's public side passes it on as it passes on those of the Hub.
	Header http.Header
	// Steps are the steps of a connection to the provider's service, in order: a step that fails makes those after it pointless. Nil: there is
	// nothing to check before a tunnel is opened.
	Steps func(Settings) []Step
	// Code finds the provider's own error code in what its public side answers, or returns an empty string. Nil: there are no codes.
	Code func(answer string) string
}

// Way is one way to a public URL that a user can choose.
type Way struct {
	// Name is the word for it: "localhost.run".
	Name string
	// Offer says in less than a line what it needs, how long its URL lasts, and who can read what passes.
	Offer string
	// Flag is the provider's setting that chooses the way, and Value what to set it to. Without Flag the provider's name chooses it.
	Flag, Value string
	// Question asks for the value of Flag where Value is empty, and Want is what to write for it in a command.
	Question, Want string
	// Secret says that the value must not be shown or stored, and Keep how the user can keep it.
	Secret bool
	Keep   string
	// Ready reports whether the way can be taken on this machine. Nil: it can.
	Ready func() bool
}

// Step is one step of a connection to a provider's service, for a program that looks for what is wrong with it.
type Step struct {
	// Name is what is checked, in a word or two: "tls".
	Name string
	// Doing says what a slow step does meanwhile, as in "connecting to example.com:443".
	Doing string
	// Session says that the step counts as one more connection of the account. It can be left out while a tunnel is online.
	Session bool
	// Run takes the step, within a few seconds, and says in a clause what it found. Its error is an [*Error]. Nothing that it opens
	// outlives it, and neither result has a token or a password in it.
	Run func(context.Context) (found string, err error)
}

// Flag is a setting that only one provider has.
type Flag struct {
	// Name is the flag's name without dashes, and with the provider's name in front: "ngrok-config".
	Name string
	// Usage describes it in the manner of package flag: a line, with a name for the value in back quotes.
	Usage string
	// File says that the value is a path.
	File bool
	// Words are values that a shell can complete.
	Words []string
	// Chooses says that who sets the flag chooses the provider with it, unless another one is named.
	Chooses bool
}

// Settings are what a program gives a provider that its user has chosen.
type Settings struct {
	// URL is the public URL that the user wants, or empty.
	URL string
	// Value returns what the user has set one of Flags to, and where, "--ngrok-config" for example; two empty strings where it is not set.
	Value func(flag string) (value, source string)
	// Getenv reads the variables that the provider's own tools have, NGROK_AUTHTOKEN for example.
	Getenv func(string) string
	// Version is the program's own version.
	Version string
	// Connecting and Prove are as in [Options].
	Connecting func(try int, err error)
	Prove      func(ctx context.Context, url string) error
	// Say shows the user a line that is no trouble: what to expect of a service, a host key that is trusted from now on. It does not block.
	// It can be nil.
	Say func(line string)
	// Ask asks the user for something that must not be shown, a passphrase for example, and waits for the answer. Nil: there is nobody to
	// ask. It is called on the goroutine of Open alone.
	Ask func(ctx context.Context, question string) (answer string, err error)
}

var registered struct {
	sync.Mutex
	providers []Registration
}

// Register makes a provider known. It panics where the name is empty or taken, without a New, and for a second default.
func Register(r Registration) {
	registered.Lock()
	defer registered.Unlock()
	if r.Name == "" || r.New == nil {
		panic("tunnel: Register of a provider without a name or without New")
	}
	for _, other := range registered.providers {
		if other.Name == r.Name {
			panic(fmt.Sprintf("tunnel: Register of provider %s twice", r.Name))
		}
		if other.Default && r.Default {
			panic(fmt.Sprintf("tunnel: Register of provider %s as the default, which %s is already", r.Name, other.Name))
		}
	}
	registered.providers = append(registered.providers, r)
}

// Registered returns what providers there are: the default first, then the others by name.
func Registered() []Registration {
	registered.Lock()
	defer registered.Unlock()
	return slices.SortedFunc(slices.Values(registered.providers), func(a, b Registration) int {
		switch {
		case a.Default:
			return -1
		case b.Default:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// Lookup returns the provider of that name, the default one where name is empty.
func Lookup(name string) (Registration, bool) {
	for _, r := range Registered() {
		if r.Name == name || name == "" && r.Default {
			return r, true
		}
	}
	return Registration{}, false
}
