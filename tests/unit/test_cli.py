import sys
from pathlib import Path

import pytest

from delia_ray.cli import main
from delia_ray.command_line import VERBS
from delia_ray.config import describe
from delia_ray.experiment.config import ExperimentSettings

CONFIG = str(Path(__file__).parents[2] / "jobs" / "configs" / "tiny.yaml")


BUILDS = [verb for verb in VERBS if verb not in ("show", "replay", "init")]


def test_what_cannot_be_probed_is_refused_with_what_can(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["probe", "weights", "--config", CONFIG, f"run.root={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert "'weights'" in said and "gradients" in said
    assert not list(tmp_path.iterdir())


def test_only_the_probe_takes_a_word_that_is_no_setting(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["mix", "gradients", "--config", CONFIG, f"run.root={tmp_path}"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


def test_the_settings_around_the_subject_are_still_read(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["probe", f"run.root={tmp_path}", "gradients", "mix.ration=1", "--config", CONFIG]) == 2
    assert "mix.ration: unknown key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "delia: no verb; use run, synthesize"),
        (["syntesize"], "delia: no verb 'syntesize'; did you mean synthesize?"),
        (["frob"], "delia: no verb 'frob'; use run, synthesize"),
        (["run", "--config"], "delia: argument --config: expected one argument; `delia --help` lists"),
        (["run", "--confg", "a.yaml"], "delia: unrecognized arguments: --confg a.yaml; `delia --help` lists"),
        (["run", "--config", "a"], "delia: --config a: Is a directory; name a YAML file"),
        (["run", "--config", "none.yaml"], "delia: --config none.yaml: No such file or directory; name a YAML file"),
        (["run", "run.name=r", "extra"], "delia: override 'extra' is not KEY=VALUE"),
        (["run"], "delia: config: run.name: is missing"),
        (["show", "run.name=r"], "delia: run.name: runs/r holds no finished artifact; `delia run` makes them"),
        (["init", "run.name=r"], "delia: init: takes no settings, found run.name=r"),
        (["init", "--config", "a.yaml"], "delia: init: takes no settings, found a.yaml"),
        (["replay"], "delia: replay: name one artifact's folder"),
        (["replay", "a", "b"], "delia: replay: name one artifact's folder"),
        (["replay", "a"], "delia: replay: a has no manifest.json"),
        *(([verb, "run.name=r", "mix.ratoi=3"], "delia: config: mix.ratoi: unknown key; did you mean mix.ratio?") for verb in BUILDS),
        *(([verb, "run.name=r", "run.root=file"], "delia: run.root: cannot write file/r/logs/") for verb in BUILDS),
        *(([verb, "run.name=r", "run.root=/proc/none"], "delia: run.root: cannot write /proc/none/r/logs/") for verb in BUILDS),
    ],
    ids=" ".join,
)
def test_a_command_that_cannot_work_is_one_line_and_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], said: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("")
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(said) and shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "file"]


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal_and_names_every_verb_and_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert left.value.code == 0
    assert [line for line in lines if len(line) > columns] == []
    keys = [line.split()[0] for line in describe(ExperimentSettings)]
    first = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert [name for name in (*VERBS, *keys) if name not in first] == []


def test_a_place_for_draws_that_is_no_folder_is_refused_before_anything_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    (tmp_path / "file").write_text("")
    assert main(["synthesize", "--config", CONFIG, f"run.root={tmp_path}", f"placement.draws={tmp_path / 'file' / 'deeper'}"]) == 2
    assert "placement.draws: " in capsys.readouterr().err
    assert not list(tmp_path.rglob("manifest.json"))


def test_serving_finished_models_never_writes_the_runs_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    words = ["--config", CONFIG, f"run.root={tmp_path}", "model=./nowhere"]
    for place in ("start", "arms/it/model", "arms/delia/model"):
        (tmp_path / "tiny" / place).mkdir(parents=True)
        (tmp_path / "tiny" / place / "manifest.json").write_text("{}")
    record = tmp_path / "tiny/config.yaml"
    record.write_text("recorded: yes\n")
    before = record.stat()
    assert main(["serve", *words, "arms.it=null"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert (record.stat().st_ino, record.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
