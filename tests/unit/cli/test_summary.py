from pathlib import Path

import pytest

from delia_ray.cli.summary import Repeat
from delia_ray.reporting.summary import find_model_folders, summarize_models
from delia_ray.settings import Settings

ARMS = ("sft", "delia", "model", "data", "arms", "r", "seven")


@pytest.mark.parametrize("last", ARMS)
def test_the_pattern_of_many_models_gives_each_models_folder_whatever_the_arms_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
):
    monkeypatch.chdir(tmp_path)
    names = [*(name for name in ARMS if name != last), last]
    arms = {name: {"ratio": number} for number, name in enumerate(names)}
    settings = Settings.model_validate({"run": {"name": last, "root": Path(last) / "arms"}, "arms": arms})
    models = find_model_folders(settings)
    (said,) = summarize_models({}, settings, Repeat([], []).command)
    pattern = str(said).splitlines()[1].split()[0]
    assert {name: pattern.replace("ARM", name) for name in models} == {name: str(folder) for name, folder in models.items()}
