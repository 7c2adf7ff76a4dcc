#!/usr/bin/env bash
# Makes .venv from the pinned requirements and this checkout. `make install` calls it; PYTHON names the interpreter.
# What pip says goes to .venv/install.log; what a person can fix is one line. The stamp .venv/.installed is written last.
set -euo pipefail
cd "$(dirname "$0")/.."

LOG=.venv/install.log
NEEDED_GIB=8

fail() {
    echo "install: $*" >&2
    exit 1
}

# interpreter, way out
check_python() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null ||
        fail "$1 is $("$1" --version 2>&1 | tail -n 1), and Python 3.11, 3.12 or 3.13 is needed; $2"
}

check_machine() {
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        fail "this is $(uname -sm); the pinned packages are for Linux on x86_64, see README.md#install for other machines"
    local free used
    free=$(df -Pk . | awk 'NR == 2 {print $4}')
    used=$(du -sk .venv 2>/dev/null | cut -f 1 || true)
    [ $((free + ${used:-0})) -ge $((NEEDED_GIB * 1024 * 1024)) ] ||
        fail "only $((free / 1024 / 1024)) GiB are free in $PWD and $NEEDED_GIB GiB are needed; free some, or check out on another disk"
}

make_venv() {
    [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 && return
    "$PYTHON" -m venv .venv >"$SCRATCH" 2>&1 ||
        fail "$PYTHON cannot make a virtual environment ($(tail -n 1 "$SCRATCH")); on Debian and Ubuntu: apt-get install python3-venv"
}

# DeepSpeed compiles a small C++ extension when training first starts.
check_compiler() {
    command -v "${CXX:-c++}" >/dev/null || fail "no C++ compiler was found, and training compiles a small extension; on Debian and Ubuntu: apt-get install g++"
    .venv/bin/python -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        fail "Python.h is missing, and training compiles a small extension; on Debian and Ubuntu: apt-get install python3-dev"
}

# What pip says of one step is judged alone: the log has the steps before it, too.
run_step() {
    "$@" >"$SCRATCH" 2>&1 && { cat "$SCRATCH" >>"$LOG"; return; }
    cat "$SCRATCH" >>"$LOG"
    explain
}

run_pip() {
    run_step .venv/bin/python -m pip install --progress-bar off --no-deps "$@"
}

explain() {
    if grep -q "^install: " "$SCRATCH"; then
        fail "$(sed -n 's/^install: //p' "$SCRATCH" | tail -n 1); details in $LOG"
    elif grep -qE "No space left on device|Errno 28|Disk quota exceeded|Errno 122" "$SCRATCH"; then
        fail "the disk filled up; free some space and run the same command again"
    elif grep -qE "NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Network is unreachable|ConnectionResetError" "$SCRATCH"; then
        fail "pip cannot reach its package index; check the network (and HTTPS_PROXY), then run the same command again; details in $LOG"
    elif grep -q "No matching distribution found for " "$SCRATCH"; then
        fail "$(sed -n 's/.*No matching distribution found for //p' "$SCRATCH" | tail -n 1) is not on the package index that pip is set up for; details in $LOG"
    fi
    tail -n 15 "$SCRATCH" >&2
    fail "pip failed; more in $LOG"
}

PYTHON=${PYTHON:-python3}
SCRATCH=$(mktemp)
trap 'rm -f "$SCRATCH"' EXIT
HOW="install one and name it, for example: make PYTHON=python3.11 install"
if [ -x .venv/bin/python ]; then
    check_python .venv/bin/python "make clean, and start again"
else
    command -v "$PYTHON" >/dev/null || fail "there is no $PYTHON; Python 3.11, 3.12 or 3.13 is needed: $HOW"
    check_python "$PYTHON" "$HOW"
fi
check_machine
rm -f .venv/.installed
make_venv
check_compiler
: >"$LOG"
echo "install: pinned packages into .venv, about 4 GB and a few minutes; details in $LOG"
run_step bash requirements/install_torch.sh .venv/bin/python requirements/cpu.txt
run_pip -r requirements/cpu.txt -r requirements/dev.txt
run_pip --no-build-isolation --editable .
touch .venv/.installed
