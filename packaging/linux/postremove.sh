#!/bin/sh
# Deliveries stay until dpkg purges the package; rpm has no purge, and leaves them. Their owner stays as long as they do.
set -e
case "$1" in
purge)
	rm -rf /var/lib/hubhook
	;;
remove | 0) ;;
*) exit 0 ;; # an upgrade
esac
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ ! -e /var/lib/hubhook ] && getent passwd hubhook >/dev/null; then
	userdel hubhook
fi
