package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
)

// Secret is a token or a webhook's secret. It prints as "(hidden)": convert it to a string where it has to be sent.
type Secret string

const hidden = "(hidden)"

// String returns "(hidden)", or "" for the empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// MarshalText hides the secret from JSON and from logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Token is a token of the Hub and where it was found.
type Token struct {
	Value Secret
	// Source is the name of a variable or the path of a file.
	Source string
}

// FindToken looks for a token where the huggingface_hub library does: HF_TOKEN, HUGGING_FACE_HUB_TOKEN, the file that HF_TOKEN_PATH names,
// $HF_HOME/token, $XDG_CACHE_HOME/huggingface/token, ~/.cache/huggingface/token. It returns the zero Token where there is none, and an
// error where one is there and can't be used. The token exchange of trusted publishers is left out.
func FindToken(lookup func(string) (string, bool)) (Token, error) {
	for _, name := range []string{env.HFToken, env.OldHFToken} {
		if value, _ := lookup(name); value != "" {
			// As in the library, a variable that is set to white space hides the file.
			return checkToken(Token{Secret(clean(value)), name})
		}
	}
	file := tokenFile(lookup)
	if file == "" {
		return Token{}, nil
	}
	content, err := readToken(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Token{}, nil
	case err != nil:
		return Token{}, text.WithHint(fmt.Errorf("read the token in %s: %w", file, text.FileCause(err)), "correct the file, or set HF_TOKEN")
	}
	return checkToken(Token{Secret(clean(content)), file})
}

// maxToken is the most bytes of a file that are taken for a token. Tokens have about 40 bytes, those of OAuth over a thousand.
const maxToken = 64 << 10

func readToken(file string) (string, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular(): // a pipe would block, and a directory is no file
		return "", errors.New("not a regular file")
	case info.Size() > maxToken:
		return "", fmt.Errorf("%d bytes are too many for a token", info.Size())
	}
	content, err := os.ReadFile(file)
	return string(content), err
}

// tokenFile returns the path of the file that may hold a token, "" where there is no home directory.
func tokenFile(lookup func(string) (string, bool)) string {
	expand := func(path string) string {
		if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/' || rest[0] == filepath.Separator) {
			path = home(lookup) + rest
		}
		return os.Expand(path, func(name string) string { value, _ := lookup(name); return value })
	}
	if path, _ := lookup(env.HFTokenPath); path != "" {
		return expand(path)
	}
	if dir, _ := lookup(env.HFHome); dir != "" {
		return filepath.Join(expand(dir), "token")
	}
	if dir, _ := lookup(env.CacheHome); dir != "" {
		return filepath.Join(expand(dir), "huggingface", "token")
	}
	if dir := home(lookup); dir != "" {
		return filepath.Join(dir, ".cache", "huggingface", "token")
	}
	return ""
}

func home(lookup func(string) (string, bool)) string {
	for _, name := range []string{env.Home, env.UserProfile} {
		if dir, _ := lookup(name); dir != "" {
			return dir
		}
	}
	return ""
}

// clean removes line breaks, which come with a token that was copied, and the space around it.
func clean(token string) string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(token))
}

// checkToken refuses a token that can't stand in a header. For an empty token it returns the zero Token.
func checkToken(t Token) (Token, error) {
	if t.Value == "" {
		return Token{}, nil
	}
	for _, c := range []byte(t.Value) {
		if c <= ' ' || c > '~' {
			return Token{}, text.WithHint(fmt.Errorf("read the token in %s: it has a character that no token has, such as a space", t.Source),
				"copy it again from "+DefaultEndpoint+"/settings/tokens")
		}
	}
	return t, nil
}
