"""A log of metrics: read while it is written, and when it is whole."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Logged:
    """Steps and tokens of a metrics log that is being written, for the terminal; tokens from now on."""

    def __init__(self, file: Path):
        self._file = file
        self._inode, self._at, self._rows, self._tokens = 0, 0, 0, 0
        self.read()
        self._tokens = 0

    def read(self) -> tuple[int, int]:
        """Steps that are logged, and tokens since this object was made."""
        if not self._file.exists():
            return 0, 0
        with self._file.open("rb") as stream:
            inode = os.fstat(stream.fileno()).st_ino
            cut = inode != self._inode  # a resumed run puts another file here, without what came after its checkpoint
            if cut:
                self._inode, self._at, self._rows = inode, 0, 0
            stream.seek(self._at)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        lines = [json.loads(text) for text in whole.splitlines()]
        self._at += len(whole)
        self._rows += len(lines)
        self._tokens += 0 if cut else sum(line["tokens"] for line in lines)
        return self._rows, self._tokens


def read_metrics(file: Path) -> list[dict[str, float]]:
    """The lines of a ``metrics.jsonl``, one a step."""
    return [json.loads(text) for text in file.read_text().splitlines()]


def summary(lines: Sequence[dict[str, Any]]) -> dict[str, int | float]:
    """Counts of a finished run from its metrics: steps and tokens, and the median speed."""
    speeds = sorted(line["tokens_per_second"] for line in lines)
    return {"steps": len(lines), "tokens": sum(line["tokens"] for line in lines), "tokens_per_second": speeds[len(speeds) // 2]}
