package main

import (
	"archive/zip"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// about is what PyPI shows of hubhook.
//
//go:embed about.md
var about string

// A wheel is a Python package with a binary and without Python code.
// https://packaging.python.org/en/latest/specifications/binary-distribution-format/ is the format.
type wheel struct {
	goos, goarch string
	version      string   // as Python writes it
	tags         []string // of the platforms that the binary runs on
	binary       []byte
	license      []byte
	modified     time.Time
}

// platformTags returns Python's names of the platforms that a static Go binary runs on.
func platformTags(goos, goarch string) ([]string, error) {
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[goarch]
	if machine == "" {
		return nil, fmt.Errorf("no wheels are made for %s/%s: want amd64 or arm64", goos, goarch)
	}
	switch goos {
	case "linux":
		// The binary links no C library, so both that of GNU and musl will do, however old. manylinux2014 is manylinux_2_17 for old pips.
		return []string{"manylinux2014_" + machine, "manylinux_2_17_" + machine, "musllinux_1_1_" + machine}, nil
	case "darwin":
		// Go 1.25 and 1.26 need macOS 12: https://go.dev/doc/go1.25#darwin
		return []string{"macosx_12_0_" + map[string]string{"amd64": "x86_64", "arm64": "arm64"}[goarch]}, nil
	case "windows":
		return []string{"win_" + goarch}, nil
	}
	return nil, fmt.Errorf("no wheels are made for %s/%s: want linux, darwin or windows", goos, goarch)
}

var semantic = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-(alpha|beta|rc|dev)(?:\.(\d+))?)?(?:\+([0-9A-Za-z.]+))?$`)

// pythonVersion writes a semantic version as Python does: 1.2.0-rc.1 is 1.2.0rc1.
// https://packaging.python.org/en/latest/specifications/version-specifiers/ has the rules.
func pythonVersion(version string) (string, error) {
	m := semantic.FindStringSubmatch(version)
	if m == nil {
		return "", fmt.Errorf("version %q has no form that Python knows: want 1.2.3, or 1.2.3 with -alpha.N, -beta.N, -rc.N or -dev.N after it", version)
	}
	python := m[1]
	if m[2] != "" {
		python += map[string]string{"alpha": "a", "beta": "b", "rc": "rc", "dev": ".dev"}[m[2]] + cmp.Or(m[3], "0")
	}
	if m[4] != "" {
		python += "+" + strings.ToLower(m[4])
	}
	return python, nil
}

func (w *wheel) fileName() string {
	return fmt.Sprintf("hubhook-%s-py3-none-%s.whl", w.version, strings.Join(w.tags, "."))
}

// write writes the wheel: the binary where installers put scripts, what pip wants to know, and RECORD, a list of all files with their sums.
func (w *wheel) write(to io.Writer) error {
	script := "hubhook"
	if w.goos == "windows" {
		script += ".exe"
	}
	info := "hubhook-" + w.version + ".dist-info/"
	files := []struct {
		name    string
		content []byte
		mode    uint32
	}{
		{"hubhook-" + w.version + ".data/scripts/" + script, w.binary, 0o755},
		{info + "METADATA", []byte(w.metadata()), 0o644},
		{info + "WHEEL", []byte(w.format()), 0o644},
		{info + "licenses/LICENSE", w.license, 0o644},
	}
	z := zip.NewWriter(to)
	var record strings.Builder
	add := func(name string, content []byte, mode uint32) error {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: w.modified}
		h.CreatorVersion = 3 << 8                 // Unix: the next line is a Unix mode
		h.ExternalAttrs = (0o100000 | mode) << 16 // a regular file
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		return err
	}
	for _, f := range files {
		if err := add(f.name, f.content, f.mode); err != nil {
			return err
		}
		sum := sha256.Sum256(f.content)
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", f.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.content))
	}
	fmt.Fprintf(&record, "%sRECORD,,\n", info)
	if err := add(info+"RECORD", []byte(record.String()), 0o644); err != nil {
		return err
	}
	return z.Close()
}

func (w *wheel) metadata() string {
	return fmt.Sprintf(`Metadata-Version: 2.4
Name: hubhook
Version: %s
Summary: Receive Hugging Face Hub webhooks: a public URL, deliveries that are stored first, and your handler in any language
Project-URL: Source, https://github.com/hubhook/hubhook
Project-URL: Documentation, https://github.com/hubhook/hubhook/tree/main/docs
Project-URL: Changelog, https://github.com/hubhook/hubhook/blob/main/CHANGELOG.md
Keywords: huggingface,webhooks,tunnel
License-Expression: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.8
Classifier: Environment :: Console
Classifier: Intended Audience :: Developers
Classifier: Programming Language :: Go
Classifier: Topic :: Internet :: WWW/HTTP
Description-Content-Type: text/markdown

%s`, w.version, about)
}

func (w *wheel) format() string {
	var b strings.Builder
	b.WriteString("Wheel-Version: 1.0\nGenerator: hubhook\nRoot-Is-Purelib: false\n")
	for _, tag := range w.tags {
		fmt.Fprintf(&b, "Tag: py3-none-%s\n", tag)
	}
	return b.String()
}
