package tunnel

import "context"

func openNgrokTunnel(ctx context.Context, config NgrokConfig, settings ngrokSettings) (Tunnel, error) {
	return nil, &Error{Op: openNgrok, Cause: "not connected yet", Fix: "try again", Temporary: true}
}
