package postgres

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testsWithServer{m}) }

// testsWithServer runs all tests, and then stops the server that they share.
type testsWithServer struct{ *testing.M }

func (ts testsWithServer) Run() int {
	code := ts.M.Run()
	if err := pgserver.CloseShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
