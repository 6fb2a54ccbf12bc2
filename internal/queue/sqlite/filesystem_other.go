//go:build !linux

package sqlite

// remoteWarning returns nil: only on Linux are the types of file systems known.
func remoteWarning(string) error { return nil }
