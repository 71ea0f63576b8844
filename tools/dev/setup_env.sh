#!/bin/sh
# Finds Python 3.11 and hands over to setup_env.py, which sets up .venv.
#
#   sh tools/dev/setup_env.sh [--check]
#
# PYTHON names an interpreter; without it .venv's own, python3.11, python3 and
# python are tried in turn. Only shell built-ins are used here.
set -u
want=3.11
ask='import sys; print("%d.%d.%d" % sys.version_info[:3])'
case $0 in
*/*) root=${0%/*}/../.. ;;
*) root=../.. ;;
esac

version_of() {
    "$1" -c "$ask" </dev/null 2>/dev/null
}

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

if [ -n "${PYTHON:-}" ]; then
    version=$(version_of "$PYTHON") ||
        fail "PYTHON=$PYTHON does not run as a Python interpreter; name a Python $want"
    case $version in
    "$want".*) exec "$PYTHON" "$root/tools/dev/setup_env.py" "$@" ;;
    esac
    fail "PYTHON=$PYTHON is Python $version, $want is needed (the tested set is pinned for it)"
fi

seen=
for python in "$root/.venv/bin/python" python3.11 python3 python; do
    version=$(version_of "$python") || continue
    case $version in
    "$want".*) exec "$python" "$root/tools/dev/setup_env.py" "$@" ;;
    esac
    seen="$seen${seen:+, }$python is $version"
done
fail "no Python $want found (${seen:-no python at all}); install it, or name one: make install PYTHON=/path/to/python$want"
