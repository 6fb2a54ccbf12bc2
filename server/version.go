package server

import "runtime/debug"

const modulePath = "github.com/hubhook/hubhook"

// version is set by the linker in released binaries.
var version string

// Version returns the version of hubhook that this program contains: v1.2.3, or devel.
func Version() string {
	if version != "" {
		return version
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	found := ""
	if build.Main.Path == modulePath {
		found = build.Main.Version
	}
	for _, m := range build.Deps {
		if m.Path == modulePath {
			found = m.Version
		}
	}
	if found == "" || found == "(devel)" {
		return "devel"
	}
	return found
}
