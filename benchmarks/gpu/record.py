"""The file of results: the machine, and the figures of each case, written after each of them."""

import json
import os
import time
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
_NOT_MEASURED = ("cut off", "no time left")
_SHOWN_FIRST = ("tokens_per_second", "mfu", "peak_gib", "save_s", "load_s")


class Record:
    """Figures of cases on one machine.

    Figures of an earlier call on the same machine, with the same versions, stay until they are measured anew.
    """

    def __init__(self, file: Path, machine: dict[str, Any]):
        self._file, self._machine = file, machine
        kept = json.loads(file.read_text()) if file.exists() else {}
        self._cases: dict[str, Figures] = kept["cases"] if kept.get("machine") == machine else {}

    def add(self, case: str, figures: Figures) -> None:
        """Store the figures of a case; that there was not enough time for it replaces nothing."""
        if figures["outcome"] in _NOT_MEASURED and case in self._cases:
            return
        self._cases[case] = {**figures, "date": time.strftime("%Y-%m-%d", time.gmtime())}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._file.with_suffix(".partial")
        scratch.write_text(json.dumps({"machine": self._machine, "cases": self._cases}, indent=1) + "\n")
        os.replace(scratch, self._file)


def describe(case: str, figures: Figures) -> str:
    """One line of a case and its figures."""
    measured = figures["outcome"] == "measured"
    rest = {key: value for key, value in figures.items() if key != "outcome" and value is not None}
    ordered = [key for key in _SHOWN_FIRST if key in rest] + [key for key in rest if key not in _SHOWN_FIRST]
    words = ([] if measured else [figures["outcome"]]) + [f"{key} {_format(rest[key])}" for key in ordered]
    return f"{case}: {', '.join(words)}"


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}" if isinstance(value, float) else str(value)
