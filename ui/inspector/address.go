package inspector

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
)

// addressFile is the file in the data directory with a running hubhook's inspector address.
const addressFile = "inspector.json"

// Address says how to reach the inspector of a running hubhook. It holds the token, so it goes into no log.
type Address struct {
	URL   string `json:"url"` // without a path, such as http://127.0.0.1:7861
	Token string `json:"token"`
	PID   int    `json:"pid"`
}

// Page returns the URL to open in a browser. The URL holds the token; the inspector then replaces the token by a cookie.
func (a Address) Page() string { return a.URL + "/?token=" + url.QueryEscape(a.Token) }

// DeliveryPage returns the URL of the page on one delivery, without the token. A browser that has the cookie needs none.
func (a Address) DeliveryPage(id string) string { return a.URL + "/?" + pageOn(id).Encode() }

// pageOn returns the query of the page on one delivery.
func pageOn(id string) url.Values { return url.Values{"delivery": {id}} }

// WriteAddress writes a to a file in the data directory dir. Only the owner can read the file, and it appears complete or not at all.
// remove removes it, unless another process has written its own; remove may be called more than once.
func WriteAddress(dir string, a Address) (remove func() error, err error) {
	path := filepath.Join(dir, addressFile)
	data, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encoding the inspector's address: %w", err)
	}
	if err := replaceFile(path, append(data, '\n')); err != nil {
		return nil, fmt.Errorf("leaving the inspector's address in %s: %w", path, err)
	}
	return func() error {
		found, err := readAddress(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && found != a {
			return nil
		}
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("removing the inspector's address: %w", err)
		}
		return nil
	}, nil
}

// replaceFile writes data to a new file that only its owner can read, and renames it to path.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// ReadAddress returns the address that the hubhook with the data directory dir has written there. The error is ErrNotRunning
// if there is no address, or if the process that wrote it is gone.
func ReadAddress(dir string) (Address, error) {
	path := filepath.Join(dir, addressFile)
	a, err := readAddress(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Address{}, fmt.Errorf("%w with the data directory %s, or its inspector is off", ErrNotRunning, dir)
	case err != nil:
		return Address{}, fmt.Errorf("reading the inspector's address: %w", err)
	case gone(a.PID):
		return Address{}, fmt.Errorf("%w with the data directory %s: process %d has ended without removing %s", ErrNotRunning, dir, a.PID, addressFile)
	}
	return a, nil
}

func readAddress(path string) (Address, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Address{}, err
	}
	var a Address
	if err := json.Unmarshal(data, &a); err != nil || a.URL == "" || a.Token == "" || a.PID <= 0 {
		// Leave out the decoder's error: it may repeat the file's content, with the token.
		return Address{}, fmt.Errorf("%s is damaged: start hubhook again, it writes a new one", path)
	}
	return a, nil
}

// gone reports whether there is no process pid. A process of another user is not gone.
func gone(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return true
	}
	defer process.Release()
	err = process.Signal(syscall.Signal(0)) // Windows lacks this signal, but there FindProcess fails if the process is gone
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH)
}
