import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from delia_ray import __version__
from delia_ray.cli.arguments import verbs
from delia_ray.cli.main import main

CONFIG = str(Path(__file__).parents[3] / "jobs" / "configs" / "tiny.yaml")


BUILDS = [verb for verb in verbs() if verb not in ("plan", "show", "reproduce", "init", "keys", "schema", "help", "submit", "serve")]


def test_what_cannot_be_probed_is_refused_with_what_can(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["probe", "weights", "--config", CONFIG, f"run.root={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert "'weights'" in said and "gradients" in said
    assert not list(tmp_path.iterdir())


def test_settings_and_configs_may_come_in_any_order(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["probe", "gradients", f"run.root={tmp_path}", "--config", CONFIG, "mix.ration=1"]) == 2
    assert "mix.ration: unknown key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["syntesize"], "delia: no verb 'syntesize'; did you mean synthesize?"),
        (["frob"], "delia: no verb 'frob'; use run, "),
        (["--config", "a", "run"], "delia: no verb '--config'; use run, "),
        (["probe"], "delia: probe: found nothing; name gradients or tokens"),
        (["run", "--config"], "delia: argument --config: expected one argument; `delia run --help` shows"),
        (["run", "--confg", "a.yaml"], "delia: unrecognized arguments: --confg; `delia run --help` shows"),
        (["run", "--config", "a"], "delia: --config a: Is a directory; name a YAML file"),
        (["run", "--config", "none.yaml"], "delia: --config none.yaml: No such file or directory; name a YAML file"),
        (["run", "run.name=r", "extra"], "delia: override 'extra' is not KEY=VALUE"),
        (["run"], "delia: config: run.name: is missing"),
        (["show", "run.name=r"], "delia: run.name: runs/r holds no finished artifact; `delia run` makes them"),
        (["init", "run.name=r"], "delia: init: takes no settings, found run.name=r"),
        (["init", "--config", "a.yaml"], "delia: unrecognized arguments: --config; `delia init --help` shows"),
        (["init", "file"], "delia: init: file: File exists; name a file that does not exist"),
        (["schema", "x"], "delia: schema: takes no settings, found x"),
        (["keys", "finetun"], "delia: no key 'finetun'; did you mean finetune?"),
        (["keys", "arms.delia.ratoi"], "delia: no key 'arms.delia.ratoi'; did you mean arms.delia.ratio?"),
        (["keys", "task", "mix"], "delia: keys: takes one KEY, found task mix; name one"),
        (["help", "frob"], "delia: no key 'frob'; `delia keys` lists all"),
        (["reproduce"], "delia: reproduce: name an artifact's folder"),
        (["reproduce", "a", "b"], "delia: reproduce: takes one ARTIFACT, found a b"),
        (["reproduce", "a"], "delia: reproduce: a has no manifest.json"),
        (["serve", "run.name=r", "mix.ratoi=3"], "delia: config: mix.ratoi: unknown key; did you mean mix.ratio?"),
        *(
            ([*verb.split(), "run.name=r", "mix.ratoi=3"], "delia: config: mix.ratoi: unknown key; did you mean mix.ratio?")
            for verb in BUILDS
        ),
        *(([*verb.split(), "run.name=r", "run.root=file"], "delia: run.root: cannot write file/r/logs/") for verb in BUILDS),
        *(([*verb.split(), "run.name=r", "run.root=/proc/none"], "delia: run.root: cannot write /proc/none/r/logs/") for verb in BUILDS),
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
@pytest.mark.parametrize("words", [["--help"], ["help"], *([*verb.split(), "--help"] for verb in verbs())], ids=" ".join)
def test_help_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], columns: int):
    monkeypatch.setenv("COLUMNS", str(columns))
    try:
        assert main(words) == 0
    except SystemExit as left:
        assert left.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert 3 < len(lines) <= 40
    assert [line for line in lines if len(line) > columns] == []


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert [verb for verb in verbs() if f"\n  {verb} " not in shown] == []


def test_every_key_is_listed_and_a_section_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines if not line.startswith(" ")}
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"arms.NAME.ratio", "pools.NAME.queries.kind", "task.pairs.path", "run.name"} <= set(_keys(schema, schema, ""))
    assert sorted({*_keys(schema, schema, "")} - listed) == []
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if re.search(r"PydanticUndefined|\b[A-Z]\w*\(\w*=", line)] == []
    assert main(["keys", "mix"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown and all(line.startswith(("mix.", "    ")) for line in shown)


def _keys(schema: dict[str, Any], section: dict[str, Any], prefix: str) -> Iterator[str]:
    """The keys of a JSON Schema that are no sections, with NAME for names of the user's choice."""
    alternatives = [section, *section.get("anyOf", []), *section.get("oneOf", [])]
    members = [schema["$defs"][each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in alternatives]
    for member in members:
        if member is not section and ("anyOf" in member or "oneOf" in member):
            yield from _keys(schema, member, prefix)
        children = dict(member.get("properties", {}))
        if isinstance(named := member.get("additionalProperties"), dict):
            children["NAME"] = named
        for name, child in children.items():
            below = list(_keys(schema, child, f"{prefix}{name}."))
            yield from below or ([f"{prefix}{name}"] if name != "NAME" else [])


@pytest.mark.parametrize("words", [["keys", "arms.delia"], ["keys", "arms.mine.ratio"], ["help", "pools.NAME.queries"]], ids=" ".join)
def test_a_key_is_found_under_any_name(capsys: pytest.CaptureFixture[str], words: list[str]):
    assert main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert lines and all(line.startswith(words[1]) for line in lines)


def test_keys_of_a_section_of_several_kinds_say_whose_they_are(capsys: pytest.CaptureFixture[str]):
    assert main(["keys", "task"]) == 0
    shown = capsys.readouterr().out
    for kind in ("(format, the default)", "(messages)", "(translation)"):
        assert shown.count(f"task.kind  {kind}  ") == 1
    assert "task.train [format]  (64)" in shown and "task.train [messages]  (required)" in shown
    assert "\ntask.vocabulary_multiple  (1)" in shown, "a key that all kinds have is listed once"


def test_help_explains_a_key(capsys: pytest.CaptureFixture[str]):
    assert main(["help", "mix.ratio"]) == 0
    assert capsys.readouterr().out.startswith("mix.ratio ")


@pytest.mark.parametrize("words", [["probe", "--help"], ["probe", "-h"], ["help", "probe"]], ids=" ".join)
def test_help_of_half_a_verb_names_what_completes_it(capsys: pytest.CaptureFixture[str], words: list[str]):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert [verb for verb in verbs() if verb.startswith("probe ") and f"\n  {verb} " not in shown] == []


def test_help_takes_a_verb_of_two_words(capsys: pytest.CaptureFixture[str]):
    assert main(["help", "probe", "tokens"]) == 0
    assert capsys.readouterr().out.startswith("usage: delia probe tokens ")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"delia_ray {__version__}\n"


def test_the_config_that_init_writes_is_what_it_prints(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["init"]) == 0
    printed = capsys.readouterr().out
    assert main(["init", str(tmp_path / "my.yaml")]) == 0
    assert (tmp_path / "my.yaml").read_text() == printed
    assert "delia run --config" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted((Path(CONFIG).parent).glob("*.yaml")), ids=lambda file: file.name)
def test_the_schema_accepts_the_configs_that_are_shipped(capsys: pytest.CaptureFixture[str], file: Path):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    config = yaml.safe_load(file.read_text())
    config.setdefault("run", {}).setdefault("name", "r")
    assert [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(config)] == []


def test_a_cache_that_is_no_folder_is_refused_before_anything_is_generated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    (tmp_path / "file").write_text("")
    assert main(["synthesize", "--config", CONFIG, f"run.root={tmp_path}", f"placement.cache={tmp_path / 'file' / 'deeper'}"]) == 2
    assert "placement.cache: " in capsys.readouterr().err
    assert not list(tmp_path.rglob("manifest.json"))
