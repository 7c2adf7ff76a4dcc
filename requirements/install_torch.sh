#!/usr/bin/env bash
# Installs the CPU build of torch that a requirements file pins:  bash requirements/install_torch.sh PYTHON FILE
# That build is not on PyPI. pip is asked as it is set up first; where it does not find the build, this one package comes
# from the PyTorch project's own index of CPU wheels, or from what TORCH_CPU_INDEX names (a mirror).
set -euo pipefail

PYTHON=$1
TORCH=$(grep -m 1 '^torch==' "$2")
INDEX=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}
SAID=$(mktemp)
trap 'rm -f "$SAID"' EXIT

fail() {
    cat "$SAID" >&2
    echo "install: $*" >&2
    exit 1
}

run_pip() {
    "$PYTHON" -m pip install --progress-bar off --no-deps "$@" "$TORCH" >>"$SAID" 2>&1
}

full_disk() {
    grep -qE "No space left on device|Errno 28|Disk quota exceeded|Errno 122" "$SAID"
}

if ! run_pip; then
    full_disk && fail "the disk filled up; free some space and run the same command again"
    if ! run_pip --index-url "$INDEX"; then
        full_disk && fail "the disk filled up; free some space and run the same command again"
        grep -q "No matching distribution" "$SAID" ||
            fail "$TORCH could not be installed from $INDEX: $(grep -E '^ERROR' "$SAID" | tail -n 1)"
        fail "$TORCH was found neither where pip looks nor at $INDEX; check the network (and HTTPS_PROXY), or name an index that has it in TORCH_CPU_INDEX"
    fi
fi
cat "$SAID"
