//go:build unix

package action

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"github.com/hubhook/hubhook/internal/env"
)

// guardScript waits for the end of its input. Then it ends a process group as Stop does.
const guardScript = `read -r _; kill -s TERM -- "-$1" || exit; for _ in 1 2 3 4 5; do sleep 1; kill -s 0 -- "-$1" || exit; done; kill -s KILL -- "-$1"`

// A guard ends a process group where hubhook is killed before it can do so: by kill -9, by the kernel for want of memory, by a second
// Ctrl-C. It is a shell that waits. It does not know what has left the group.
type guard struct {
	cmd  *exec.Cmd
	life io.WriteCloser // no other process has it, so it is closed when hubhook ends
	once sync.Once
}

// newGuard starts a guard of a group. It returns nil if that fails, because hubhook works without one.
func newGuard(group int) *guard {
	cmd := exec.Command("sh", "-c", guardScript, "hubhook-guard", strconv.Itoa(group))
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv(env.Path)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's signals are not for it
	life, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return nil
	}
	return &guard{cmd: cmd, life: life}
}

// release ends the guard alone. It may be called again.
func (g *guard) release() {
	if g == nil {
		return
	}
	g.once.Do(func() {
		_ = g.cmd.Process.Kill() // before its input ends
		_ = g.cmd.Wait()         // which closes life
	})
}
