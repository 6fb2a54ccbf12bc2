#!/bin/sh
# dpkg passes "remove" or "upgrade", rpm the number of versions that stay. An upgrade keeps the service.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now hubhook.service
	fi
	;;
esac
