"""The tests of a device as a case of their own.  python -m benchmarks.gpu.checks --device cuda tests"""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import torch

from benchmarks.gpu.child import Figures, run_cases

CASES = ("tests",)
_TESTS = Path(__file__).parents[2] / "tests/gpu"
_MARKERS = {"cuda": "gpu", "cpu": "not gpu"}


def measure(case: str, device: torch.device) -> Figures:
    """How many tests passed, and the names of those that did not."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", _MARKERS[device.type], f"--junitxml={report}", str(_TESTS)]
        code = subprocess.run(command, stdout=sys.stderr, cwd=_TESTS.parents[1], check=False).returncode
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    bad = [each.get("name", "") for each in cases if each.find("failure") is not None or each.find("error") is not None]
    passed = {"passed": len(cases) - len(bad)}
    return passed if code == 0 else {"outcome": "failed", **passed, "reason": ", ".join(bad) or f"pytest ended with {code}"}


if __name__ == "__main__":
    run_cases(measure)
