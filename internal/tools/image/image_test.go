//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// archived is the archive under test: the one that HUBHOOK_TEST_IMAGE names, as .ci/run does, or else one for this machine alone.
var archived struct{ path, binary string }

func TestMain(m *testing.M) {
	if os.Getenv(containedVariable) != "" {
		contained() // does not return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hubhook-image-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	archived.binary = filepath.Join(dir, "hubhook")
	if err := build(archived.binary, "../../..", "GOOS=linux"); err != nil {
		panic(err)
	}
	archived.path = os.Getenv("HUBHOOK_TEST_IMAGE")
	if archived.path == "" {
		archived.path = filepath.Join(dir, "image.tar")
		if status := run([]string{"-o", archived.path, "-version", "v1.2.3", archived.binary}, io.Discard, os.Stderr); status != 0 {
			return status
		}
	}
	return m.Run()
}

// build builds a program without cgo.
func build(to, pkg string, env ...string) error {
	command := exec.Command("go", "build", "-o", to, pkg)
	command.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := command.CombinedOutput(); err != nil {
		return errors.New(string(out))
	}
	return nil
}

// imagesIn unpacks an archive, and returns the index of the images in it.
func imagesIn(t *testing.T, archive string) v1.ImageIndex {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	unpack(t, f, dir)
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the archive names %d images, want one index", len(manifest.Manifests))
	}
	inner, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return inner
}

// imageFor returns the image for a platform.
func imageFor(t *testing.T, index v1.ImageIndex, architecture string) v1.Image {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		if d.Platform.OS == "linux" && d.Platform.Architecture == architecture {
			image, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return image
		}
	}
	t.Fatalf("there is no image for %s: %+v", architecture, manifest.Manifests)
	return nil
}

// unpack writes a tar archive below dir. Owners are set where this user may.
func unpack(t *testing.T, r io.Reader, dir string) {
	t.Helper()
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(path, content, 0o644)
			}
		default:
			t.Fatalf("%s is neither a file nor a directory", header.Name)
		}
		if err == nil && os.Geteuid() == 0 {
			err = os.Chown(path, header.Uid, header.Gid)
		}
		if err == nil {
			err = os.Chmod(path, header.FileInfo().Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	index := imagesIn(t, archived.path)
	if err := validate.Index(index, validate.Fast); err != nil { // TestContainer reads the layers
		t.Error(err)
	}
	image := imageFor(t, index, runtime.GOARCH)
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	version := file.Config.Labels["org.opencontainers.image.version"]
	if version == "" {
		t.Errorf("the labels are %v", file.Config.Labels)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := manifest.Annotations["org.opencontainers.image.version"]; got != version {
		t.Errorf("the index has version %q, the image %q", got, version)
	}
	if os.Getenv("HUBHOOK_TEST_IMAGE") != "" {
		imageFor(t, index, "amd64")
		imageFor(t, index, "arm64")
	}
}

// TestPackingAgain packs the same for two platforms twice, and gets the same bytes.
func TestPackingAgain(t *testing.T) {
	t.Parallel()
	var binaries []binary
	for _, architecture := range []string{"amd64", "arm64"} {
		binaries = append(binaries, binary{content: []byte("for " + architecture), platform: v1.Platform{OS: "linux", Architecture: architecture}, revision: "abc"})
	}
	var archives [2][]byte
	for i := range archives {
		path := filepath.Join(t.TempDir(), "image.tar")
		if _, err := pack(path, "v1.2.3", binaries); err != nil {
			t.Fatal(err)
		}
		index := imagesIn(t, path)
		if err := validate.Index(index); err != nil {
			t.Error(err)
		}
		for _, b := range binaries {
			imageFor(t, index, b.platform.Architecture)
		}
		var err error
		if archives[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same binaries differ")
	}
	binaries[1].revision = "def"
	if _, err := pack(filepath.Join(t.TempDir(), "image.tar"), "v1.2.3", binaries); err == nil || !strings.Contains(err.Error(), "different commits") {
		t.Errorf("binaries of two commits: %v", err)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	text, err := certificates()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) || strings.Count(string(text), "-----BEGIN CERTIFICATE-----") < 100 {
		t.Errorf("there are %d bytes of certificates, too few:\n%.300s", len(text), text)
	}
}

// A binary that would not run in the image is refused.
func TestWrongBinaries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, windows := filepath.Join(dir, "other"), filepath.Join(dir, "windows")
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := build(other, ".", "GOOS=linux"); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(archived.binary)
	if err != nil {
		t.Fatal(err)
	}
	// The linker records what it was built for as text.
	for name, change := range map[string][2]string{"windows": {"GOOS=linux", "GOOS=winXX"}, "cgo": {"CGO_ENABLED=0", "CGO_ENABLED=1"}} {
		changed := bytes.ReplaceAll(content, []byte("build\t"+change[0]), []byte("build\t"+change[1]))
		if err := os.WriteFile(filepath.Join(dir, name), changed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{filepath.Join(dir, "missing")}, "no such file"},
		{[]string{filepath.Join(dir, "text")}, "read which platform"},
		{[]string{other}, "not github.com/hubhook/hubhook"},
		{[]string{windows}, "build it with GOOS=linux"},
		{[]string{filepath.Join(dir, "cgo")}, "build it with CGO_ENABLED=0"},
		{[]string{archived.binary, archived.binary}, "two binaries are for linux/" + runtime.GOARCH},
	} {
		var out, errs bytes.Buffer
		status := run(append([]string{"-o", filepath.Join(dir, "image.tar")}, c.paths...), &out, &errs)
		if status != 1 || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%v: status %d, %q; want 1 and %q", c.paths, status, &errs, c.want)
		}
	}
	if status := run(nil, io.Discard, io.Discard); status != 2 {
		t.Errorf("without a binary the status is %d, want 2", status)
	}
}

// What an engine builds from the Dockerfile runs as this image does.
func TestDockerfileAgrees(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, found := strings.Cut(string(text), "\nFROM scratch\n")
	if !found {
		t.Fatal("the Dockerfile's last stage is not FROM scratch")
	}
	last = strings.ReplaceAll(last, "\\\n", "")
	of := func(instruction string) string {
		var arguments []string
		for _, m := range regexp.MustCompile(`(?m)^`+instruction+` (.+)$`).FindAllStringSubmatch(last, -1) {
			arguments = append(arguments, strings.Fields(m[1])...)
		}
		return strings.Join(arguments, " ")
	}
	want := config(nil)
	for instruction, arguments := range map[string]string{
		"USER":       want.User,
		"WORKDIR":    want.WorkingDir,
		"ENTRYPOINT": `["` + strings.Join(want.Entrypoint, `", "`) + `"]`,
		"CMD":        `["` + strings.Join(want.Cmd, `", "`) + `"]`,
		"ENV":        strings.Join(want.Env, " "),
		"VOLUME":     dataDir,
		"EXPOSE":     "7860",
	} {
		if got := of(instruction); got != arguments {
			t.Errorf("the Dockerfile has %s %s\nthe image has %s", instruction, got, arguments)
		}
	}
	// The files are the same too.
	var copied []string
	for _, m := range regexp.MustCompile(`(?m)^COPY .* (\S+)$`).FindAllStringSubmatch(last, -1) {
		copied = append(copied, m[1])
	}
	slices.Sort(copied)
	if diff := cmp.Diff([]string{"/", dataDir, program}, copied); diff != "" {
		t.Errorf("COPY: %s", diff)
	}
}
