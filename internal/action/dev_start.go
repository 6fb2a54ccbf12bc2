package action

import "context"

// startProgram starts a program's process group. The supervisor ends it, so no context does.
func startProgram(spec processSpec) (program, error) {
	p, err := startProcess(context.Background(), spec)
	if err != nil {
		return nil, err // and not a nil *process, which would be a program
	}
	return p, nil
}
