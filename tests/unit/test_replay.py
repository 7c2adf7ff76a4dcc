from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config, build_config
from delia_ray.errors import UserError
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.scoring import Generation
from delia_ray.evaluation.stored import SCORES_KIND, write_scores
from delia_ray.experiment.cells import as_arms, every_arm, repeated, variants
from delia_ray.experiment.config import ExperimentSettings
from delia_ray.replay.compare import Twin, compare, compare_data
from delia_ray.replay.rebuild import check_unchanged
from delia_ray.replay.recorded import Recorded, kept
from delia_ray.settings import Settings
from delia_ray.tasks.stage import adopt_files

CONFIGS = sorted((Path(__file__).parents[2] / "jobs" / "configs").glob("*.yaml"))
ROWS = [{"id": "a", "order_key": 1}, {"id": "b", "order_key": 2}, {"id": "c", "order_key": 3}]


class Wish(Config):
    seed: int = 0
    kind: str = "grammar"


def table(place: Path, rows: Sequence[Mapping[str, object]], compression: str = "snappy") -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), place, compression=compression)


def build(
    place: Path,
    stage: str,
    rows: Sequence[Mapping[str, object]],
    request: Wish | None = None,
    compression: str = "snappy",
    **inputs: Artifact,
) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        table(workspace.data / "train.parquet", rows, compression)
        return {"rows": len(rows)}

    origin = Provenance(None, ["pytest"])
    return build_once(place, stage=stage, kind="rows/1", request=request or Wish(), inputs=inputs, provenance=origin, write=write)


def small_run(
    run: Path, drawn: str = "x", mixed: Sequence[Mapping[str, object]] = ROWS, seed: int = 0, compression: str = "snappy"
) -> Path:
    task = build(run / "task", "task/2", ROWS, Wish(seed=seed), compression)
    rewritten = build(run / "rewritten", "rewritten/1", ROWS, task=task)
    diverse = build(run / "diverse", "answers/1", [{"answer": drawn}])
    build(run / "arms" / "it" / "mixed", "mixed/2", ROWS, Wish(seed=9), rewritten=rewritten)
    build(run / "arms" / "delia" / "mixed", "mixed/2", mixed, rewritten=rewritten, diverse=diverse)
    return run


def twins(run: Path, rebuilt: Path, role: str = "arms/delia/mixed") -> dict[str, Twin]:
    return {twin.path: twin for twin in compare(run, rebuilt, role)}


def failing(found: Mapping[str, Twin]) -> list[str]:
    return [path for path, twin in found.items() if twin.fails]


def test_what_comes_out_the_same_is_said_of_the_artifact_and_of_all_it_was_made_from_and_of_nothing_else(tmp_path: Path):
    found = twins(small_run(tmp_path / "a"), small_run(tmp_path / "b"))
    assert sorted(found) == ["arms/delia/mixed", "diverse", "rewritten", "task"]
    assert {twin.data for twin in found.values()} == {"same bytes"} and not failing(found)
    assert list(found).index("task") < list(found).index("rewritten") < list(found).index("arms/delia/mixed")


def test_the_same_rows_in_other_bytes_are_a_reproduction(tmp_path: Path):
    found = twins(small_run(tmp_path / "a"), small_run(tmp_path / "b", compression="gzip"))
    assert found["task"].data == "same rows" and not failing(found)


def test_another_request_is_named_by_its_field_and_fails(tmp_path: Path):
    found = twins(small_run(tmp_path / "a"), small_run(tmp_path / "b", seed=4))
    assert "request.seed: 0 -> 4" in str(found["task"])
    assert failing(found)[0] == "task"


def test_rows_that_follow_from_their_inputs_must_be_the_same(tmp_path: Path):
    found = twins(small_run(tmp_path / "a"), small_run(tmp_path / "b", mixed=ROWS[:2]))
    assert failing(found) == ["arms/delia/mixed"]


def test_drawn_rows_may_differ_and_so_may_what_is_mixed_from_them(tmp_path: Path):
    found = twins(small_run(tmp_path / "a"), small_run(tmp_path / "b", drawn="y", mixed=ROWS[:2]))
    assert (found["diverse"].data, found["arms/delia/mixed"].data) == ("other bytes", "other bytes")
    assert not failing(found)


def test_wordings_of_a_model_may_differ_and_those_of_the_grammar_may_not(tmp_path: Path):
    for kind in ("model", "grammar"):
        for name, rows in (("a", ROWS), ("b", ROWS[:1])):
            build(tmp_path / kind / name / "rewritten", "rewritten/1", rows, Wish(kind=kind))
        found = twins(tmp_path / kind / "a", tmp_path / kind / "b", "rewritten")
        assert failing(found) == ([] if kind == "model" else ["rewritten"])


def test_an_artifact_that_did_not_come_about_again_fails(tmp_path: Path):
    small_run(tmp_path / "a")
    build(tmp_path / "b" / "task", "task/2", ROWS)
    assert twins(tmp_path / "a", tmp_path / "b", "rewritten")["rewritten"].data == "not built"
    assert failing(twins(tmp_path / "a", tmp_path / "b", "rewritten")) == ["rewritten"]


@pytest.mark.parametrize(
    ("shards", "expected"),
    [([ROWS[:2], ROWS[2:]], "same bytes"), ([ROWS], "same rows"), ([ROWS[2:], ROWS[:2]], "same rows"), ([ROWS[:2]], "other bytes")],
    ids=["as they were", "in one", "in another order", "one missing"],
)
def test_shards_are_the_same_under_any_names_and_cuts(shards: list[list[dict[str, object]]], expected: str, tmp_path: Path):
    for name, parts in (("a", [ROWS[:2], ROWS[2:]]), ("b", shards)):
        for number, part in enumerate(parts):
            table(tmp_path / name / "kept" / f"{name}-{number}.parquet", part)
    assert compare_data(tmp_path / "a", tmp_path / "b") == expected


def test_another_order_in_a_file_of_the_same_name_is_not_the_same(tmp_path: Path):
    table(tmp_path / "a" / "train.parquet", ROWS)
    table(tmp_path / "b" / "train.parquet", ROWS[::-1])
    assert compare_data(tmp_path / "a", tmp_path / "b") == "other bytes"


def test_other_words_beside_equal_rows_are_not_the_same(tmp_path: Path):
    for name in ("a", "b"):
        table(tmp_path / name / "train.parquet", ROWS)
        (tmp_path / name / "wordings.json").write_text(name)
    assert compare_data(tmp_path / "a", tmp_path / "b") == "other bytes"


def _scores(place: Path, exact: Sequence[float]) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        rows = [
            Generation(
                prompt_id=str(index), probe="test", messages=[], label=None, expected="", answer="",
                unchanged=None, kl_sum=None, tokens=None,
            )
            for index in range(len(exact))
        ]  # fmt: skip
        scored = {"exact_match": np.array(exact), "contained": np.ones(len(exact))}
        return write_scores(rows, scored, ScoreConfig(resamples=100), workspace.data)

    origin = Provenance(None, ["pytest"])
    return build_once(place, stage="scores/2", kind=SCORES_KIND, request=Wish(), inputs={}, provenance=origin, write=write)


def test_of_scores_the_metric_that_differs_most_is_named_with_how_much(tmp_path: Path):
    _scores(tmp_path / "a" / "scores", [1.0, 1.0, 0.0, 0.0])
    _scores(tmp_path / "b" / "scores", [1.0, 0.0, 0.0, 0.0])
    found = twins(tmp_path / "a", tmp_path / "b", "scores")["scores"]
    assert found.metric == ("exact_match", 0.25)
    assert found.data == "other bytes" and not found.fails


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_comes_back_from_its_run_as_it_was(file: Path, tmp_path: Path):
    schema = ExperimentSettings if file.stem == "experiment" else Settings
    settings = build_config(schema, [file], [f"run.root={tmp_path / 'runs'}", f"placement.draws={tmp_path / 'shared'}"])
    with kept(settings):
        build(settings.run.path / "task", "task/2", ROWS)
    found = Recorded.find(settings.run.path / "task").settings([], [])
    assert found.run.path.resolve() == tmp_path / "runs" / f"{file.stem}.replay" / file.stem
    assert found.placement.draws is None
    again = found.model_copy(update={"run": settings.run, "placement": found.placement.model_copy(update={"draws": tmp_path / "shared"})})
    assert again == settings


def _tiny(tmp_path: Path, *overrides: str) -> Settings:
    return build_config(Settings, [next(file for file in CONFIGS if file.stem == "tiny")], [f"run.root={tmp_path}", *overrides])


def _ratio(tmp_path: Path) -> float:
    return yaml.safe_load((tmp_path / "tiny" / "config.yaml").read_text())["mix"]["ratio"]


def test_a_refused_run_leaves_the_record_of_what_is_finished(tmp_path: Path):
    with kept(_tiny(tmp_path, "mix.ratio=1")):
        build(tmp_path / "tiny" / "task", "task/2", ROWS)
    with pytest.raises(UserError), kept(_tiny(tmp_path, "mix.ratio=3")):
        raise UserError("refused")
    assert _ratio(tmp_path) == 1


def test_a_run_that_goes_on_is_recorded_as_it_goes_on(tmp_path: Path):
    with kept(_tiny(tmp_path, "mix.ratio=1")):
        build(tmp_path / "tiny" / "task", "task/2", ROWS)
    with pytest.raises(UserError), kept(_tiny(tmp_path, "mix.ratio=3")):
        build(tmp_path / "tiny" / "rewritten", "rewritten/1", ROWS)
        raise UserError("refused later")
    assert _ratio(tmp_path) == 3


def test_a_run_that_is_refused_at_once_leaves_no_record(tmp_path: Path):
    with pytest.raises(UserError), kept(_tiny(tmp_path)):
        raise UserError("refused")
    assert not list((tmp_path / "tiny").iterdir())


def _recorded(tmp_path: Path) -> Recorded:
    with kept(_tiny(tmp_path)):
        build(tmp_path / "tiny" / "task", "task/2", ROWS)
    return Recorded.find(tmp_path / "tiny" / "task")


def test_a_replay_may_move_and_run_elsewhere_and_ask_for_nothing_else(tmp_path: Path):
    recorded = _recorded(tmp_path)
    moved = recorded.settings([], [f"run.root={tmp_path / 'else'}", "placement.draws=rows", "placement.serve.port=8300"])
    assert (moved.run.root, moved.placement.draws, moved.placement.serve.port) == (tmp_path / "else", Path("rows"), 8300)
    with pytest.raises(UserError, match=r"mix\.ratio: 2\.0 -> 5\.0"):
        recorded.settings([], ["mix.ratio=5"])
    with pytest.raises(UserError, match="is the run itself"):
        recorded.settings([], [f"run.root={tmp_path}"])


def test_what_cannot_be_replayed_says_what_to_do(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no manifest\.json"):
        Recorded.find(tmp_path / "empty")
    build(tmp_path / "old" / "task", "task/2", ROWS)
    with pytest.raises(UserError, match="older than this record"):
        Recorded.find(tmp_path / "old" / "task")


def test_an_experiment_and_a_run_in_one_folder_are_each_replayed_from_their_own_record(tmp_path: Path):
    experiment = build_config(ExperimentSettings, [], ["run.name=both", f"run.root={tmp_path}", "experiment.seeds=[4]"])
    with kept(experiment), kept(build_config(Settings, [], ["run.name=both", f"run.root={tmp_path}"])):
        for role in ("arms/delia/mixed", "arms/delia-rho9-n96-seed4-lr0.0005/mixed", "experiment"):
            build(tmp_path / "both" / role, "mixed/2", ROWS)
    kinds = [type(Recorded.find(tmp_path / "both" / role).settings([], [])) for role in ("arms/delia/mixed", "experiment")]
    assert kinds == [Settings, ExperimentSettings]
    assert isinstance(Recorded.find(tmp_path / "both" / "arms/delia-rho9-n96-seed4-lr0.0005/mixed").settings([], []), ExperimentSettings)


def test_every_cell_that_an_experiment_may_train_can_be_named():
    given = ["run.name=e", "experiment.seeds=[0, 1]", "experiment.learning_rates=[0.1, 0.2]", "experiment.ratios={delia: [1, 2]}"]
    settings = build_config(ExperimentSettings, [], given)
    arms = every_arm(settings, 8)
    for rate in (0.1, 0.2):
        chosen = repeated(settings, dict.fromkeys(variants(settings, 8), rate))
        assert dict(as_arms(settings, chosen).values()).items() <= arms.items()


def test_a_file_that_is_not_what_it_was_is_named(tmp_path: Path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    task = {"kind": "messages", "train": tmp_path / "train.jsonl", "test": tmp_path / "test.jsonl"}
    settings = Settings.model_validate({"run": {"name": "r"}, "task": task})

    made = build_once(
        tmp_path / "task", stage="task/2", kind="rows/1", request=Wish(), inputs=adopt_files(settings.task),
        provenance=Provenance(None, ["pytest"]), write=lambda workspace: {},
    )  # fmt: skip
    check_unchanged(settings, "task", made.manifest)
    (tmp_path / "test.jsonl").write_text("{} \n")
    with pytest.raises(UserError, match=r"test\.jsonl has changed"):
        check_unchanged(settings, "task", made.manifest)
