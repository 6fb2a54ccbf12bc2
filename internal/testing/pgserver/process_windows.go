package pgserver

import (
	"errors"
	"os"
	"os/exec"
)

var errWindows = errors.New("servers are not started for tests on Windows")

func ownedByServer(string) error    { return errWindows }
func runAsServer(*exec.Cmd) error   { return errWindows }
func interrupt(p *os.Process) error { return errWindows }
func kill(p *os.Process) error      { return errWindows }
func pause(*os.Process) error       { return errWindows }
func proceed(*os.Process) error     { return errWindows }
