import shutil
from pathlib import Path

import pytest
import yaml

from delia_ray.core.artifacts import Provenance, build_once
from delia_ray.core.config import Config, build_config
from delia_ray.core.errors import UserError
from delia_ray.pipeline.experiment.config import ExperimentSettings
from delia_ray.pipeline.reproduce.recorded import Recorded, keep_settings
from delia_ray.settings import Settings

CONFIGS = sorted((Path(__file__).parents[3] / "jobs" / "configs").glob("*.yaml"))


def _build(place: Path) -> None:
    origin = Provenance(None, ["pytest"])
    build_once(place, stage="task/2", kind="rows/1", request=Config(), inputs={}, provenance=origin, write=lambda workspace: {})


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_comes_back_from_its_run_as_it_was(file: Path, tmp_path: Path):
    schema = ExperimentSettings if file.stem == "experiment" else Settings
    settings = build_config(schema, [file], [f"run.root={tmp_path / 'runs'}", f"placement.cache={tmp_path / 'shared'}"])
    with keep_settings(settings):
        _build(settings.run.path / "task")
    found = Recorded.find(settings.run.path / "task").settings([], [])
    assert found.run.path.resolve() == tmp_path / "runs" / f"{file.stem}.reproduced" / file.stem
    assert found.placement.cache is None
    again = found.model_copy(update={"run": settings.run, "placement": found.placement.model_copy(update={"cache": tmp_path / "shared"})})
    assert again == settings


def _tiny(tmp_path: Path, *overrides: str) -> Settings:
    return build_config(Settings, [next(file for file in CONFIGS if file.stem == "tiny")], [f"run.root={tmp_path}", *overrides])


def _ratio(tmp_path: Path) -> float:
    return yaml.safe_load((tmp_path / "tiny" / "config.yaml").read_text())["mix"]["ratio"]


def test_a_refused_run_leaves_the_record_of_what_is_finished(tmp_path: Path):
    with keep_settings(_tiny(tmp_path, "mix.ratio=1")):
        _build(tmp_path / "tiny" / "task")
    with pytest.raises(UserError), keep_settings(_tiny(tmp_path, "mix.ratio=3")):
        raise UserError("refused")
    assert _ratio(tmp_path) == 1


def test_a_verb_that_finishes_nothing_leaves_the_record_of_what_is_finished(tmp_path: Path):
    with keep_settings(_tiny(tmp_path, "mix.ratio=1")):
        _build(tmp_path / "tiny" / "task")
    with keep_settings(_tiny(tmp_path, "mix.ratio=3", "arms.sft=null")):
        pass
    assert _ratio(tmp_path) == 1


def test_an_artifact_that_took_the_place_of_another_is_recorded(tmp_path: Path):
    with keep_settings(_tiny(tmp_path, "mix.ratio=1")):
        _build(tmp_path / "tiny" / "task")
    with keep_settings(_tiny(tmp_path, "mix.ratio=3")):
        shutil.rmtree(tmp_path / "tiny" / "task")
        _build(tmp_path / "tiny" / "task")
    assert _ratio(tmp_path) == 3


def test_a_run_that_goes_on_is_recorded_as_it_goes_on(tmp_path: Path):
    with keep_settings(_tiny(tmp_path, "mix.ratio=1")):
        _build(tmp_path / "tiny" / "task")
    with pytest.raises(UserError), keep_settings(_tiny(tmp_path, "mix.ratio=3")):
        _build(tmp_path / "tiny" / "rewritten")
        raise UserError("refused later")
    assert _ratio(tmp_path) == 3


def test_a_run_that_is_refused_at_once_leaves_no_record(tmp_path: Path):
    with pytest.raises(UserError), keep_settings(_tiny(tmp_path)):
        raise UserError("refused")
    assert not list((tmp_path / "tiny").iterdir())


def _recorded(tmp_path: Path) -> Recorded:
    with keep_settings(_tiny(tmp_path)):
        _build(tmp_path / "tiny" / "task")
    return Recorded.find(tmp_path / "tiny" / "task")


def test_a_reproduction_may_move_and_run_elsewhere_and_ask_for_nothing_else(tmp_path: Path):
    recorded = _recorded(tmp_path)
    moved = recorded.settings([], [f"run.root={tmp_path / 'else'}", "placement.cache=rows", "placement.serve.port=8300"])
    assert (moved.run.root, moved.placement.cache, moved.placement.serve.port) == (tmp_path / "else", Path("rows"), 8300)
    with pytest.raises(UserError, match=r"mix\.ratio: 2\.0 -> 5\.0"):
        recorded.settings([], ["mix.ratio=5"])
    with pytest.raises(UserError, match="is the run itself"):
        recorded.settings([], [f"run.root={tmp_path}"])


def test_what_cannot_be_reproduced_says_what_to_do(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no manifest\.json"):
        Recorded.find(tmp_path / "empty")
    _build(tmp_path / "old" / "task")
    with pytest.raises(UserError, match="older than this record"):
        Recorded.find(tmp_path / "old" / "task")


def test_an_experiment_and_a_run_in_one_folder_are_each_reproduced_from_their_own_record(tmp_path: Path):
    experiment = build_config(ExperimentSettings, [], ["run.name=both", f"run.root={tmp_path}", "experiment.seeds=[4]"])
    with keep_settings(experiment), keep_settings(build_config(Settings, [], ["run.name=both", f"run.root={tmp_path}"])):
        for role in ("arms/delia/mixed", "arms/delia-rho9-n96-seed4-lr0.0005/mixed", "experiment"):
            _build(tmp_path / "both" / role)
    kinds = [type(Recorded.find(tmp_path / "both" / role).settings([], [])) for role in ("arms/delia/mixed", "experiment")]
    assert kinds == [Settings, ExperimentSettings]
    assert isinstance(Recorded.find(tmp_path / "both" / "arms/delia-rho9-n96-seed4-lr0.0005/mixed").settings([], []), ExperimentSettings)
