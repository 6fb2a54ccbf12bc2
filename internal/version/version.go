// Package version knows which version of hubhook a program contains.
package version

import "runtime/debug"

const modulePath = "github.com/hubhook/hubhook"

// linked is set by the linker in released binaries.
var linked string

// String returns the version of hubhook that this program contains: v1.2.3, or devel.
func String() string {
	if linked != "" {
		return linked
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
