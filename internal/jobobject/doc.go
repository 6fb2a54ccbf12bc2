// Package jobobject starts programs on Windows so that they and their children can be ended together. On other systems it is empty.
package jobobject
