package action

// guard has nothing to do: Windows ends what is in a job object together with hubhook.
type guard struct{}

func newGuard(int) *guard { return nil }

func (*guard) release() {}
