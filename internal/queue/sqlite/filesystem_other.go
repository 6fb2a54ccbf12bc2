//go:build !linux

package sqlite

// remoteWarning says nothing: only Linux has numbers for the kinds of file systems that are worth a list.
func remoteWarning(string) error { return nil }
