#!/bin/sh
# Runs after an installation and after an upgrade, which restarts the service if it runs.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart hubhook.service
fi
