"""What `make gpu-check` runs needs the packages of requirements/gpu_check.txt and no others, so neither Ray nor vLLM."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORT = """
import importlib.util, runpy, sys
assert not [name for name in ("ray", "vllm", "scipy", "pandas") if importlib.util.find_spec(name)]
import benchmarks.gpu.__main__, benchmarks.gpu.training, benchmarks.machine, pytest, pytest_timeout
benchmarks.machine.machine_with_gpu("cpu")
for module in {modules}:
    runpy.run_path(module)
"""
TRAIN = """
import runpy, sys
sys.argv[1:] = ["--device", "cpu", *{cases}]
runpy.run_module("benchmarks.gpu.training", run_name="__main__")
"""
CASES = ["llama-3-8b/full/zero2", "gemma-7b/lora/zero3/checkpointing"]


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with links to the installed packages that the file pins, and to no others."""
    lines = (ROOT / "requirements/gpu_check.txt").read_text().splitlines()
    pinned = {normalize(line.partition("==")[0]) for line in lines}
    for package in importlib.metadata.distributions():
        if normalize(package.name) in pinned:
            for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
                if not (tmp_path / top).exists():  # a package's own copy of another comes after the installed one
                    (tmp_path / top).symlink_to(str(package.locate_file(top)))
    return tmp_path


def run(code: str, packages: Path, extensions: Path) -> str:
    """Run ``code`` with ``packages`` alone, and return what it printed.

    Args:
        extensions: where DeepSpeed compiles its own; in the usual folder another path to torch would have it compiled for all again.
    """
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "TORCH_EXTENSIONS_DIR": str(extensions)}
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tests_and_measurements_import_no_other_package(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run(
        IMPORT.format(modules=[str(file) for file in sorted((ROOT / "tests/gpu").glob("*.py"))]), packages, tmp_path_factory.mktemp("empty")
    )


@pytest.mark.slow
def test_a_training_is_measured_without_any_other_package(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    printed = run(TRAIN.format(cases=CASES), packages, tmp_path_factory.mktemp("extensions"))
    for case in CASES:
        assert f'{{"case": "{case}", "outcome": "measured"' in printed
