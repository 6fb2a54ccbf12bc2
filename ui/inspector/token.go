package inspector

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hubhook/hubhook/internal/text"
)

// tokenFile keeps the token in the data directory from one start to the next, so that a page that is open goes on working.
const tokenFile = "inspector-token"

const tokenBytes = 16

// Token returns a new random token of 128 bits, in hexadecimal.
func Token() string {
	var b [tokenBytes]byte
	rand.Read(b[:]) // never fails: it ends the process instead
	return hex.EncodeToString(b[:])
}

// KeptToken returns the token that an earlier run left in the data directory dir, or a new one, which it leaves there for the
// next run in a file that only its owner can read. A token that others could have read, or that is damaged, is replaced.
//
// The token can be used whatever the error, which says why an earlier one no longer holds or why this one ends with the
// process; its method Hint says what to do. Neither has the token in it.
func KeptToken(dir string) (token string, err error) {
	path := filepath.Join(dir, tokenFile)
	token, err = readToken(path)
	if err == nil {
		return token, nil
	}
	token = Token()
	var trouble error
	if !errors.Is(err, fs.ErrNotExist) {
		trouble = text.WithHint(fmt.Errorf("%w; the inspector has a new one", err),
			"pages that are open ask for it: open the inspector's URL anew")
	}
	if err := replaceFile(path, []byte(token+"\n")); err != nil {
		err = fmt.Errorf("keeping the inspector's token in %s: %w", path, text.FileCause(err))
		if trouble != nil {
			err = fmt.Errorf("%w; %w", trouble, err)
		}
		trouble = text.WithHint(err,
			"serving goes on, but the next start has another token, and open pages ask for it; make the file writable, or set HUBHOOK_INSPECTOR_TOKEN")
	}
	return token, trouble
}

// readToken returns the token in the file at path, if it is one that only this user can know.
func readToken(path string) (string, error) {
	failed := func(err error) (string, error) {
		return "", fmt.Errorf("reading the inspector's token from %s: %w", path, text.FileCause(err))
	}
	// Not what a link leads to, and no pipe, on which opening would wait.
	if info, err := os.Lstat(path); err != nil {
		return failed(err)
	} else if !info.Mode().IsRegular() {
		return failed(errors.New("it is not a regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return failed(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return failed(err)
	}
	if !ownersAlone(info) {
		return failed(fmt.Errorf("other users could read or change it (mode %04o)", info.Mode().Perm()))
	}
	text, err := io.ReadAll(io.LimitReader(f, 2*tokenBytes+2))
	if err != nil {
		return failed(err)
	}
	token, ended := string(text), len(text) == 2*tokenBytes+1 && text[2*tokenBytes] == '\n'
	if ended {
		token = token[:2*tokenBytes]
	}
	// Not the decoder's words: they may repeat what is in the file.
	if b, err := hex.DecodeString(token); !ended || err != nil || len(b) != tokenBytes {
		return failed(errors.New("it is damaged"))
	}
	return token, nil
}
