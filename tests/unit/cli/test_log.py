"""The log of a verb: as libraries write it, or one JSON object a line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from delia_ray.cli.json_lines import convert
from delia_ray.cli.log import writes_json
from delia_ray.placement import Cluster, Placement

SPEAKER = """
import os, subprocess, sys
from pathlib import Path
from delia_ray.cli.log import RunLog

log = RunLog(Path(sys.argv[1]), "cats", as_json=sys.argv[2] == "json")
with log.redirect() as terminal:
    print("a library: before any stage")
    with log.stage("queries"):
        sys.stdout.flush()
        subprocess.run([sys.executable, "-c", "import os; os.write(1, b'a child\\\\nWARNING 08-01 12:00:00 [core.py:1] of a child\\\\n')"])
        with log.stage("nodes"):
            log.keep("two\\nlines")
        log.keep("of queries")
    terminal.write("for people")
log.keep_error("Traceback\\nValueError: no")
print(*log.last_lines(9), sep="\\n", file=sys.stderr)
"""


def speak(log: Path, form: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", SPEAKER, str(log), form], capture_output=True, text=True, check=True, timeout=60)


def test_every_line_of_a_json_log_has_time_level_run_stage_and_message_whoever_wrote_it(tmp_path: Path):
    speak(tmp_path / "run.log", "json")
    objects = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    assert all({"time", "level", "run", "stage", "message"} <= set(each) and each["run"] == "cats" for each in objects)
    assert [(each["stage"], each["level"], each["message"]) for each in objects] == [
        ("", "INFO", "a library: before any stage"),
        ("queries", "INFO", "queries begins"),
        ("queries", "INFO", "a child"),
        ("queries", "WARNING", "WARNING 08-01 12:00:00 [core.py:1] of a child"),
        ("nodes", "INFO", "nodes begins"),
        ("nodes", "INFO", "two\nlines"),
        ("queries", "INFO", "of queries"),
        ("", "ERROR", "Traceback\nValueError: no"),
    ]


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_end_of_the_log_is_readable_in_either_form(tmp_path: Path, form: str):
    said = speak(tmp_path / "run.log", form)
    assert said.stdout == "for people"
    assert said.stderr.splitlines()[-3:] == ["of queries", "Traceback", "ValueError: no"]


def test_a_log_in_text_is_as_it_was_written(tmp_path: Path):
    speak(tmp_path / "run.log", "text")
    text = (tmp_path / "run.log").read_text()
    assert text.startswith("a library: before any stage\na child\nWARNING") and text.endswith("Traceback\nValueError: no")


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            "(Actor pid=7, ip=10.0.0.2) \x1b[31mERROR\x1b[0m no\n",
            {"level": "ERROR", "source": "Actor pid=7, ip=10.0.0.2", "message": "ERROR no"},
        ),
        ('{"levelname": "WARNING", "message": "m", "job_id": "01"}\n', {"level": "WARNING", "message": "m", "job_id": "01"}),
        ('(f pid=1) {"levelname": "INFO", "message": "m"}\n', {"level": "INFO", "source": "f pid=1", "message": "m"}),
        ("  1%| \r 50%| \r100%|##|\r\n", {"level": "INFO", "message": "100%|##|"}),
        ('{"no": "log"}\n', {"level": "INFO", "message": '{"no": "log"}'}),
        ("{broken\n", {"level": "INFO", "message": "{broken"}),
        (" \n", None),
    ],
    ids=["worker", "JSON", "a worker's JSON", "progress bar", "other JSON", "no JSON", "blank"],
)
def test_what_a_line_says_is_found_in_every_form(line: str, event: dict[str, Any] | None):
    assert convert(line) == event


@pytest.mark.parametrize(
    ("placement", "environment", "is_json"),
    [
        (Placement(), {}, False),
        (Placement(), {"RAY_ADDRESS": "127.0.0.1:1"}, True),
        (Placement(cluster=Cluster(address="127.0.0.1:1")), {}, True),
        (Placement(cluster=Cluster(address="127.0.0.1:1"), log="text"), {}, False),
        (Placement(log="json"), {}, True),
    ],
    ids=["laptop", "job", "cluster", "asked for text", "asked for json"],
)
def test_a_log_is_json_on_a_cluster_off_a_terminal_and_readable_elsewhere(
    placement: Placement, environment: dict[str, str], is_json: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert writes_json(placement, on_terminal=False) == is_json
    assert writes_json(placement, on_terminal=True) == (placement.log == "json")
