#!/bin/sh
# Makes the user that the service runs as.
set -e
if ! getent passwd hubhook >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/hubhook --no-create-home --shell /usr/sbin/nologin hubhook
fi
