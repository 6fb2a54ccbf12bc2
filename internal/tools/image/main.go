// Command image packs built hubhook binaries into one container image for all their platforms, without a container engine: an OCI archive, which
// docker, podman and skopeo read.
//
//	go run ./internal/tools/image -o bin/hubhook-image.tar -version v1.2.3 bin/hubhook-amd64 bin/hubhook-arm64
//
// Each binary says itself which platform it is for. The same binaries and version make the same archive, byte for byte. It prints the digest of the image's
// index, and exits 1 if it fails, 2 if it is used wrongly.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	archive := flags.String("o", "bin/hubhook-image.tar", "write the archive to this `file`")
	version := flags.String("version", "devel", "the image's tag, and the version that it says it has")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() == 0 {
		fmt.Fprintln(stderr, "image: no binary was named\n  hint: make image builds them, and packs them")
		return 2
	}
	var binaries []binary
	for _, path := range flags.Args() {
		b, err := readBinary(path)
		if err != nil {
			return failed(stderr, err)
		}
		binaries = append(binaries, b)
	}
	digest, err := pack(*archive, *version, binaries)
	if err != nil {
		return failed(stderr, err)
	}
	fmt.Fprintf(stdout, "%s  hubhook:%s  %s\n", *archive, *version, digest)
	return 0
}

func failed(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "image: %v\n", err)
	return 1
}
