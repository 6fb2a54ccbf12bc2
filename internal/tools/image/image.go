package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	modulePath = "github.com/hubhook/hubhook"

	// user has no rights anywhere. It is a number, because Kubernetes' runAsNonRoot can't look up a name.
	userID = 65532
	// dataDir is all that hubhook writes to. It is a volume, so it can be written to where the root can't.
	dataDir = "/data"
	// configDir is the working directory. hubhook looks there for hubhook.yaml.
	configDir = "/etc/hubhook"
	program   = "/usr/local/bin/hubhook"
)

// config is how the image runs. The Dockerfile says the same; a test compares them.
func config(labels map[string]string) v1.Config {
	return v1.Config{
		User:       fmt.Sprintf("%d:%d", userID, userID),
		WorkingDir: configDir,
		Entrypoint: []string{program},
		Cmd:        []string{"serve"},
		Env: []string{
			"PATH=/usr/local/bin:/usr/bin:/bin",
			"HOME=" + dataDir,
			"TMPDIR=" + dataDir,
			"HUBHOOK_DATA=" + dataDir,
			// The ports of a container can't be reached on its loopback interface. The inspector stays there.
			"HUBHOOK_HOST=0.0.0.0",
			"HUBHOOK_NO_TUNNEL=true",
		},
		// hubhook's default port. HUBHOOK_PORT is not set, because it would outrank the PORT of a platform that gives one.
		ExposedPorts: map[string]struct{}{"7860/tcp": {}},
		Volumes:      map[string]struct{}{dataDir: {}},
		StopSignal:   "SIGTERM",
		Labels:       labels,
	}
}

// binary is a program to be packed, with what the Go linker has recorded in it.
type binary struct {
	content  []byte
	platform v1.Platform
	revision string    // the commit that it was built from, "" if that is unknown
	built    time.Time // when that commit was made, 1970 if that is unknown
}

// readBinary refuses a file that would not run in an image that holds nothing else.
func readBinary(path string) (binary, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return binary{}, fmt.Errorf("read which platform %s is for: %w", path, err)
	}
	if info.Path != modulePath {
		return binary{}, fmt.Errorf("%s is the program %s, not %s", path, info.Path, modulePath)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["GOOS"] != "linux" {
		return binary{}, fmt.Errorf("%s is for %s: build it with GOOS=linux", path, settings["GOOS"])
	}
	if settings["CGO_ENABLED"] != "0" {
		return binary{}, fmt.Errorf("%s needs a C library, which the image has not: build it with CGO_ENABLED=0", path)
	}
	b := binary{platform: v1.Platform{OS: "linux", Architecture: settings["GOARCH"]}, revision: settings["vcs.revision"], built: time.Unix(0, 0)}
	if when := settings["vcs.time"]; when != "" {
		if b.built, err = time.Parse(time.RFC3339, when); err != nil {
			return binary{}, fmt.Errorf("read when %s was built: %w", path, err)
		}
	}
	b.content, err = os.ReadFile(path)
	return b, err
}

// index makes an image for each binary, and an index of them.
func index(version string, binaries []binary) (v1.ImageIndex, error) {
	roots, err := certificates()
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%d:%d", userID, userID)
	base, err := layer([]entry{
		{path: configDir, mode: fs.ModeDir | 0o755},
		{path: "/etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: roots},
		// Docker and Kubernetes take HOME from here for a user that is given by number.
		{path: "/etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/:/sbin/nologin\nhubhook:x:" + id + ":hubhook:" + dataDir + ":/sbin/nologin\n")},
		{path: "/etc/group", mode: 0o644, content: []byte("root:x:0:\nhubhook:x:65532:\n")},
		// A new volume of Docker takes over its owner and mode.
		{path: dataDir, mode: fs.ModeDir | 0o700, owner: userID},
	})
	if err != nil {
		return nil, err
	}
	labels := map[string]string{
		"org.opencontainers.image.title":       "hubhook",
		"org.opencontainers.image.description": "receives Hugging Face Hub webhooks",
		"org.opencontainers.image.source":      "https://" + modulePath,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     version,
	}
	if revision := binaries[0].revision; revision != "" {
		labels["org.opencontainers.image.revision"] = revision
	}
	images := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, b := range binaries {
		for _, earlier := range binaries[:i] {
			if earlier.platform.Equals(b.platform) {
				return nil, fmt.Errorf("two binaries are for %s", b.platform)
			}
			if earlier.revision != b.revision {
				return nil, errors.New("the binaries are from different commits: build them all again")
			}
		}
		image, err := image(b, base, labels)
		if err != nil {
			return nil, fmt.Errorf("make the image for %s: %w", b.platform, err)
		}
		images = mutate.AppendManifests(images, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &b.platform}})
	}
	return mutate.Annotations(images, labels).(v1.ImageIndex), nil
}

func image(b binary, base v1.Layer, labels map[string]string) (v1.Image, error) {
	own, err := layer([]entry{{path: program, mode: 0o755, content: b.content}})
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: b.built.UTC()}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: base, History: v1.History{Created: created, CreatedBy: "certificates, user and directories"}},
		mutate.Addendum{Layer: own, History: v1.History{Created: created, CreatedBy: program}},
	)
	if err != nil {
		return nil, err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = b.platform.OS, b.platform.Architecture, created
	file.Config = config(labels)
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return nil, err
	}
	return mutate.Annotations(image, labels).(v1.Image), nil
}
