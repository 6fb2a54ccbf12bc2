package action

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/hubhook/hubhook/payload"
)

// All variables and arguments together are bounded too: by a quarter of the stack's limit, 6 MB at most. Those of this test leave no room
// for a payload that fits into a variable of its own.
func TestCommandWithoutRoomInTheEnvironment(t *testing.T) {
	var stack syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_STACK, &stack); err != nil {
		t.Fatal(err)
	}
	room := int(min(stack.Cur/4, 6<<20)) - 100<<10
	for i := 0; room > 0; i++ {
		size := min(room, 100<<10)
		t.Setenv(fmt.Sprintf("HUBHOOK_TEST_ROOM_%d", i), strings.Repeat("x", size))
		room -= size
	}
	dir := t.TempDir()
	body := event(t, "me/data", strings.Repeat("x", 120<<10))
	p, err := payload.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := new(Commands).Handler(`printf %s "$WEBHOOK_PAYLOAD" > variable
		printf %s "$WEBHOOK_PAYLOAD_FILE" > path`, dir)(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if readFile(t, dir, "path") == "" || readFile(t, dir, "variable") != "" {
		t.Error("the payload has not come in the file")
	}
}
