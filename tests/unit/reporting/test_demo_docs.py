"""The README's figures of the demo are those of the record that a run wrote, and so is the drawing beside them."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from delia_ray.core.artifacts import Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.reporting.wording.glossary import METRICS

DOCS = Path(__file__).parents[3] / "docs"
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_docs", DOCS / "demo.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def record() -> dict[str, Any]:
    return json.loads((DOCS / "demo.json").read_text(encoding="utf-8"))


def test_the_readme_says_what_the_record_says(demo: ModuleType, record: dict[str, Any]):
    assert README.count(demo.BEGIN) == README.count(demo.END) == 1
    assert demo.replace_block(README, record) == README, "run `make demo-docs`, or `python docs/demo.py`"


def test_every_value_of_the_readmes_table_is_one_of_the_record(record: dict[str, Any]):
    titles = {METRICS[name].title: name for name in record["metrics"]}
    rows = [line for line in README.splitlines() if any(line.startswith(f"{title}  ") for title in titles)]
    assert len(rows) == len(titles)
    for row in rows:
        title, *cells = re.split(r"\s{2,}", row)
        values = [record["arms"][arm][titles[title]]["value"] for arm in ("base", "sft", "delia")]
        assert [float(cell.replace("\N{MINUS SIGN}", "-")) for cell in cells] == pytest.approx(values, abs=5e-4)


def test_the_drawing_was_made_from_the_record(demo: ModuleType, record: dict[str, Any]):
    with Image.open(DOCS / "demo.png") as drawing:
        assert drawing.info["Description"] == demo.fingerprint(record), "run `make demo-docs`, or `python docs/demo.py`"


def test_no_figure_of_the_demo_is_typed_beside_the_record():
    own = README.partition("<!-- /demo -->")[2].partition("## Install")[0]
    assert not re.findall(r"\b0\.\d+|\d+ (?:%|of|in|minutes|GB)", own)


def test_a_finished_run_becomes_a_record(demo: ModuleType, tmp_path: Path, raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    def page(workspace: Workspace) -> Counts:
        (workspace.data / "report.json").write_text(json.dumps(raw))
        return {}

    def trained(workspace: Workspace) -> Counts:
        return {"steps": 56, "tokens": 1000, "tokens_per_second": 480}

    def answered(workspace: Workspace) -> Counts:
        return {"rows": 40, "generated": 0}

    for place, write in (("report", page), ("arms/delia/checkpoint", trained), ("diverse", answered)):
        origin = Provenance(None, ["pytest"])
        build_once(tmp_path / place, stage=f"{place}/1", kind=place, request=Config(), inputs={}, provenance=origin, write=write)
    for name, place in (("RECORD", "demo.json"), ("DRAWING", "demo.png"), ("README", "README.md")):
        monkeypatch.setattr(demo, name, tmp_path / place)
    (tmp_path / "demo.json").write_text(json.dumps({"minutes": 1, "memory_gb": 2}))
    (tmp_path / "README.md").write_text(f"before\n{demo.BEGIN}\nold\n{demo.END}\nafter\n")
    demo.main([str(tmp_path), "minutes=12"])
    made = json.loads((tmp_path / "demo.json").read_text())
    text = (tmp_path / "README.md").read_text()
    assert (made["minutes"], made["memory_gb"]) == (12, 2)
    assert made["arms"]["delia"]["selectivity"] == {name: raw["arms"]["delia"]["selectivity"][name] for name in ("value", "low", "high")}
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "takes 12 minutes" in text and "56 steps" in text and f"{raw['arms']['delia']['selectivity']['value']:.3f}" in text
    assert "of the 40 answers" in " ".join(text.split())
    assert (tmp_path / "demo.png").stat().st_size > 5_000
