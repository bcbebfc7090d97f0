#!/bin/sh
# Install the Debian packages that are missing among those named.
# usage: scripts/apt.sh PACKAGE...
set -eu
missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: not a Debian system, please install what corresponds to:$missing" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "setup: as root, please run: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "setup: installing$missing"
install() {
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing \
        >/dev/null
}
# The package lists may be missing or old.
install 2>/dev/null || { apt-get update -qq && install; }
