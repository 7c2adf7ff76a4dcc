"""A pool that is too small: found before anything is trained, and filled by doing what the message says."""

import json
import re
import sys
from pathlib import Path

import pytest

from delia_ray.cli.main import main
from delia_ray.core.artifacts import Artifact

TINY = str(Path(__file__).parents[2] / "jobs/configs/tiny.yaml")
pytestmark = pytest.mark.usefixtures("local_ray")


class Run:
    """One run of the tiny config under one name."""

    def __init__(self, root: Path, model: Artifact, capture: pytest.CaptureFixture[str]):
        self.folder, self._capture = root / "tiny", capture
        self._words = ["--config", TINY, f"run.root={root}", f"model={model.data}"]

    def does(self, verb: str, *settings: str) -> None:
        assert main([verb, *self._words, *settings]) == 0, self._capture.readouterr().err

    def refuses(self, verb: str, *settings: str) -> str:
        self._capture.readouterr()
        assert main([verb, *self._words, *settings]) == 2
        said = [line for line in self._capture.readouterr().err.splitlines() if line.startswith("delia: ")]
        assert len(said) == 1, said
        return said[0]

    def counts(self, role: str) -> dict[str, float]:
        return json.loads((self.folder / role / "manifest.json").read_text())["counts"]


@pytest.fixture
def run(tmp_path: Path, tiny_models: dict[str, Artifact], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    return Run(tmp_path, tiny_models["one"], capsys)


@pytest.mark.parametrize("verb", ["mix", *(pytest.param(verb, marks=pytest.mark.slow) for verb in ("finetune", "export", "run"))])
def test_no_arm_is_mixed_or_trained_before_every_pool_is_large_enough(run: Run, verb: str):
    said = run.refuses(verb, "synthesize.queries.rows=4", "placement.serve.port=8391")
    assert "mix.ratio=2 needs 8 diverse rows, but the pool holds" in said
    assert not (run.folder / "arms").exists()


def test_an_arm_of_its_own_pool_and_ratio_is_told_its_own_keys(run: Run):
    pools = ["pools={few: {queries: {rows: 3}}}", "arms={sft: null, other: {pool: few, ratio: 1.5}}"]
    said = run.refuses("mix", *pools)
    assert "arms.other.ratio=1.5 needs 6 diverse rows" in said and "pools.few.queries.rows" in said
    assert not (run.folder / "arms").exists()


def test_raising_the_rows_as_advised_works_under_the_same_name_and_generates_only_the_new_ones(run: Run):
    said = run.refuses("mix", "synthesize.queries.rows=4")
    advised = re.search(r"raise synthesize\.queries\.rows to (\d+) ", said)
    assert advised, said
    before, answered = run.counts("queries"), run.counts("diverse")
    run.does("mix", f"synthesize.queries.rows={advised[1]}")
    queries, answers = run.counts("queries"), run.counts("diverse")
    assert (before["generated"], queries["generated"], queries["cached"]) == (4, int(advised[1]) - 4, 4)
    assert answers["cached"] == answered["generated"] and answers["generated"] == queries["rows"] - answered["generated"]
    assert run.counts("arms/delia/mixed")["diverse"] == 8


def test_lowering_the_ratio_as_advised_works_under_the_same_name_and_generates_nothing(run: Run):
    said = run.refuses("mix", "synthesize.queries.rows=4")
    advised = re.search(r"or lower mix\.ratio to ([\d.]+)", said)
    assert advised, said
    run.does("mix", "synthesize.queries.rows=4", f"mix.ratio={advised[1]}")
    assert run.counts("arms/delia/mixed")["effective_ratio"] == float(advised[1])


@pytest.mark.slow
def test_a_number_that_follows_from_the_ratio_follows_it_down_too(run: Run):
    run.does("synthesize", "synthesize.queries.rows=null", "mix.ratio=3")
    run.does("synthesize", "synthesize.queries.rows=null", "mix.ratio=2")
    queries = run.counts("queries")
    assert (queries["generated"], queries["cached"]) == (0, 2 * 2 * 4)
    assert run.counts("diversity")["texts"] == 2 * run.counts("diverse")["rows"]


def test_more_rows_in_the_users_own_file_take_the_place_of_fewer(run: Run, tmp_path: Path):
    file = tmp_path / "queries.jsonl"
    lines = [json.dumps({"query": f"Name {number} kinds of fruit and say where they grow."}) for number in range(3, 30)]
    file.write_text("\n".join(lines[:3]) + "\n")
    source = f"synthesize.queries={{kind: file, path: {file}}}"
    assert "give synthesize.queries more rows" in run.refuses("mix", source)
    file.write_text("\n".join(lines) + "\n")
    run.does("mix", source)
    assert (run.counts("diverse")["cached"], run.counts("diverse")["generated"]) == (3, len(lines) - 3)


def test_a_pool_that_something_was_made_from_stays_as_it_is(run: Run):
    run.does("mix")
    before = {file: file.read_bytes() for file in run.folder.rglob("*") if file.is_file() and "logs" not in file.parts}
    said = run.refuses("mix", "synthesize.queries.rows=40")
    assert "request.queries.rows: 16 -> 40" in said and "arms/delia/mixed was made from it" in said and "placement.cache=" in said
    assert {file: file.read_bytes() for file in before} == before


def test_another_question_under_the_same_name_is_still_refused(run: Run):
    run.does("synthesize", "synthesize.queries.rows=4")
    assert "request.queries.temperature: 1.0 -> 0.5" in run.refuses("synthesize", "synthesize.queries.temperature=0.5")
