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

// tokenFile keeps the token in the data directory from one start to the next, so that an open page goes on working.
const tokenFile = "inspector-token"

const tokenBytes = 16

// Token returns a new random token of 128 bits, in hexadecimal.
func Token() string {
	var b [tokenBytes]byte
	rand.Read(b[:]) // never fails: it ends the process instead
	return hex.EncodeToString(b[:])
}

// KeptToken returns the token that an earlier run saved in the data directory dir. If there is none, it makes a token and saves it for
// the next run, in a file that only its owner can read. It replaces a token that is damaged or that others could have read.
//
// The token is usable even with an error. The error says why the earlier token was replaced, or why this token could not be saved; its
// method Hint says what to do. Neither contains the token.
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
			"pages that are open ask for it: open the inspector's URL again")
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

// readToken returns the token in the file at path, if only this user can know it.
func readToken(path string) (string, error) {
	failed := func(err error) (string, error) {
		return "", fmt.Errorf("reading the inspector's token from %s: %w", path, text.FileCause(err))
	}
	// Follow no link, and open no pipe: opening a pipe would block.
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
	// Leave out the decoder's error: it may repeat the file's content.
	if b, err := hex.DecodeString(token); !ended || err != nil || len(b) != tokenBytes {
		return failed(errors.New("it is damaged"))
	}
	return token, nil
}
