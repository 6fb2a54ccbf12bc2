package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// pack writes an OCI archive of the binaries to a file, and returns the digest of the image's index.
func pack(archive, version string, binaries []binary) (v1.Hash, error) {
	images, err := index(version, binaries)
	if err != nil {
		return v1.Hash{}, err
	}
	dir, err := os.MkdirTemp("", "hubhook-image-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(dir)
	if err := write(archive, dir, version, images); err != nil {
		return v1.Hash{}, fmt.Errorf("write %s: %w", archive, err)
	}
	return images.Digest()
}

// write lays the images out in dir, and packs that into the archive.
func write(archive, dir, version string, images v1.ImageIndex) (err error) {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	// The archive's own index has one entry, the images' index: with several, skopeo asks which one is meant. Podman takes the name from the first
	// annotation, Docker from the second.
	if err := path.AppendIndex(images, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": version,
		"io.containerd.image.name":          "docker.io/library/hubhook:" + version,
	})); err != nil {
		return err
	}
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	entries, err := read(dir)
	if err != nil {
		return err
	}
	return writeTar(f, entries)
}

// read returns the files and directories below dir, in order.
func read(dir string) ([]entry, error) {
	var entries []entry
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		e := entry{path: filepath.ToSlash(name), mode: fs.ModeDir | 0o755}
		if !d.IsDir() {
			e.mode = 0o644
			e.content, err = os.ReadFile(path)
		}
		entries = append(entries, e)
		return err
	})
	return entries, err
}

// entry is a file or a directory of an archive.
type entry struct {
	path    string
	mode    fs.FileMode
	owner   int // user and group
	content []byte
}

// layer packs entries, with the directories that they are in.
func layer(entries []entry) (v1.Layer, error) {
	var packed bytes.Buffer
	if err := writeTar(&packed, withParents(entries)); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// withParents adds the directories that no entry stands for.
func withParents(entries []entry) []entry {
	var all []entry
	made := map[string]bool{}
	for _, e := range entries {
		for i := 1; i < len(e.path); i++ {
			if parent := e.path[:i]; e.path[i] == '/' && !made[parent] {
				made[parent] = true
				all = append(all, entry{path: parent, mode: fs.ModeDir | 0o755})
			}
		}
		made[e.path] = true
		all = append(all, e)
	}
	return all
}

// writeTar writes what is the same each time: no clock, no user and no directory of this machine gets in.
func writeTar(w io.Writer, entries []entry) error {
	archive := tar.NewWriter(w)
	for _, e := range entries {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(e.path, "/"), Mode: int64(e.mode.Perm()), Uid: e.owner, Gid: e.owner,
			Size: int64(len(e.content)), ModTime: time.Unix(0, 0),
		}
		if e.mode.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(e.content); err != nil {
			return err
		}
	}
	return archive.Close()
}

// certificates returns the roots that Mozilla trusts, as golang.org/x/crypto keeps them. go.sum pins them; those of the machine that builds would make an
// image differ from one machine to the next.
func certificates() ([]byte, error) {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // Mozilla trusts only some of what it signed, which a file of certificates can't say
		}
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("read a root certificate: %w", err)
		}
		fmt.Fprintf(&text, "# %s\n", certificate.Subject)
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}
