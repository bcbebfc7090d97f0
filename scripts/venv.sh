#!/bin/sh
# Make .venv with what pyproject.toml asks for; nothing is done when that is already there.
# usage: scripts/venv.sh [EXTRA]        EXTRA: an extra of pyproject.toml, e.g. dev
set -eu
cd "$(dirname "$0")/.."
extra=${1:-}
stamp=.venv/.installed-${extra:-base}

fail() {
    echo "setup: $*" >&2
    exit 1
}

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

make_venv() {
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.11 or later is needed, and none was found"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian keeps it in a package of its own.
        sh scripts/apt.sh python3-venv || fail "$python lacks the venv module: install python3-venv"
    fi
    "$python" -m venv .venv || fail "cannot make .venv with $python"
}

[ -x .venv/bin/python ] || make_venv
# What is installed may serve another extra as well, but not another pyproject.toml.
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    echo "setup: installing Python packages into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --editable ".${extra:+[$extra]}" || fail "pip could not install the packages, see above"
    touch "$stamp"
fi
