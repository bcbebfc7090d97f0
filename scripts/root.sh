#!/bin/sh
# Say what is missing to run tunnels on this machine.
set -eu
if [ "$(id -u)" != 0 ]; then
    echo "root is needed: network namespaces and TUN interfaces cannot be made without it" >&2
    exit 1
fi
if [ ! -c /dev/net/tun ]; then
    echo "/dev/net/tun is missing: load the tun module, or pass the device into the container" >&2
    exit 1
fi
