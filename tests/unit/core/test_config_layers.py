import re
from pathlib import Path

import pytest

from delia_ray.core.config import Config, ConfigError, build_config
from delia_ray.core.errors import UserError
from delia_ray.settings import Settings
from delia_ray.synthesis.config import EchoEngine
from delia_ray.synthesis.query_config import MagpieQueries
from delia_ray.training.config import Full


class Sample(Config):
    rev: str = "x"
    rate: float = 1e-3
    name: str | None = "n"
    tags: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("rev=12e4567", "rev", "12e4567"),
        ("rev=007", "rev", "007"),
        ("rate=1e-5", "rate", 1e-5),
        ("name=null", "name", None),
        ("tags=[a, b]", "tags", ("a", "b")),
        ('rev="C:\\new"', "rev", '"C:\\new"'),
        ("rev=it's", "rev", "it's"),
    ],
)
def test_override_text_is_parsed_by_the_schema(override: str, field: str, value: object):
    assert getattr(build_config(Sample, [], [override]), field) == value


@pytest.mark.parametrize("override", ["rev", "=x", ".rev=x", "rev.=x", "a..rev=x"])
def test_an_override_without_key_and_value_is_refused(override: str):
    with pytest.raises(ConfigError, match=rf"override '{re.escape(override)}' is not KEY=VALUE"):
        build_config(Sample, [], [override])


def test_a_later_layer_wins_and_keeps_its_neighbors(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("run: {name: a}\nmix: {ratio: 2, seed: 1}\n")
    (tmp_path / "b.yaml").write_text("mix: {ratio: 3}\n")
    settings = build_config(Settings, [tmp_path / "a.yaml", tmp_path / "b.yaml"], ["mix.seed=9"])
    assert (settings.mix.ratio, settings.mix.seed, settings.run.name) == (3.0, 9, "a")


@pytest.mark.parametrize(
    "overrides", [["task.kind=messages", "task.train=a", "task.test=b"], ["task.train=a", "task.test=b", "task.kind=messages"]]
)
def test_a_section_of_another_kind_replaces_the_one_in_the_file(tmp_path: Path, overrides: list[str]):
    (tmp_path / "a.yaml").write_text(
        "run: {name: a}\ntask: {kind: format, dev: 3, test: 80}\nsynthesize: {queries: {kind: magpie, rows: 4}}\n"
    )
    queries = "synthesize.queries={kind: file, path: q.jsonl}"
    settings = build_config(Settings, [tmp_path / "a.yaml"], [*overrides, queries])
    assert (settings.task.kind, settings.synthesize.queries.kind) == ("messages", "file")


def test_a_section_without_a_kind_gets_the_kind_of_its_default():
    settings = build_config(
        Settings, [], ["run.name=a", "synthesize.queries.rows=7", "finetune.parameters.kind=full", "synthesize.engine.kind=echo"]
    )
    assert settings.synthesize.queries == MagpieQueries(rows=7)
    assert settings.finetune.parameters == Full(kind="full")
    assert settings.synthesize.engine == EchoEngine(kind="echo")


def test_all_errors_are_reported_at_once_by_path():
    with pytest.raises(ConfigError) as caught:
        build_config(Settings, [], ["run.name=a", "mix.ratoi=3", "mix.ratio=-1", "finetune.global_batch_size=many"])
    message = str(caught.value)
    assert "mix.ratoi: unknown key" in message
    assert "mix.ratio:" in message and "'-1'" in message
    assert "finetune.global_batch_size:" in message and "'many'" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rewrite.kind=grammar", "rewrite.kind"),
        ("arms={sft: null, delia: null}", "arms: none is left"),
        ("arms={base: {ratio: 1}}", r"arms\.base"),
        ("run.name=../elsewhere", "run.name"),
    ],
)
def test_settings_that_cannot_work_together_are_refused(override: str, message: str):
    overrides = ["run.name=a", "task={kind: messages, train: a.jsonl, test: b.jsonl}", override]
    with pytest.raises(ConfigError, match=message):
        build_config(Settings, [], overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "expected a mapping at the top level, found list"),
        ("key: [unclosed", "not valid YAML: line 1, column 15: expected ',' or ']', but got '<stream end>'"),
        ("\x00", "not valid YAML: unacceptable character #x0000"),
        ("run:\n\tname: a\n", "line 2, column 1: a tab cannot indent YAML; use spaces"),
        ("run: {name: a}\nmix: {ratio: 1}\nmix: {seed: 2}\n", "line 3, column 1: the key mix occurs twice"),
        ("mix: {ratio: 1, ratio: 1}", "line 1, column 17: the key ratio occurs twice"),
        ("arms: {1: {ratio: 2}}", "line 1, column 8: the key 1 is no text; write '1'"),
        ("arms: {yes: {ratio: 2}}", "line 1, column 8: the key yes is no text; write 'yes'"),
        ("? [a]\n: x", "a key must be text"),
        ("run: {name: a}\n---\nmix: {ratio: 2}", "line 2, column 1: expected a single document in the stream, but found another document"),
        ("a: &a {b: *a}", "an alias (*name) refers to a value that contains it; write it out"),
        ("run: !!python/object:os.system {name: a}", "line 1, column 6: could not determine a constructor"),
    ],
)
def test_an_invalid_file_is_reported_by_name_and_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        build_config(Settings, [tmp_path / "bad.yaml"], [])
    assert str(caught.value).startswith(f"--config {tmp_path / 'bad.yaml'}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path):
    (tmp_path / "bad.yaml").write_bytes("run: {name: ä}".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"bad\.yaml: not UTF-8 .*save the file as UTF-8"):
        build_config(Settings, [tmp_path / "bad.yaml"], [])


def test_anchors_and_merge_keys_are_supported(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("run: {name: a}\narms:\n  x: &x {ratio: 1, seed: 2}\n  y: {<<: *x, seed: 3}\n  z: *x\n")
    arms = build_config(Settings, [tmp_path / "a.yaml"], []).arms
    assert {name: arm and (arm.ratio, arm.seed) for name, arm in arms.items() if name in "xyz"} == {"x": (1, 2), "y": (1, 3), "z": (1, 2)}


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_is_refused_with_the_first_required_key(tmp_path: Path, text: str):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"^config: run\.name: is missing"):
        build_config(Settings, [tmp_path / "a.yaml"], [])


def test_a_missing_file_is_refused_with_a_way_out(tmp_path: Path):
    with pytest.raises(ConfigError, match="delia init"):
        build_config(Settings, [tmp_path / "none.yaml"], [])


def test_default_arms_stay_and_null_leaves_one_out():
    settings = build_config(Settings, [], ["run.name=a", "arms.sft=null", "arms.half.ratio=0.5"])
    assert {name: arm and arm.ratio for name, arm in settings.arms.items()} == {"sft": None, "delia": None, "half": 0.5}
    assert settings.arms["sft"] is None and settings.arms["delia"] is not None


def test_an_arm_that_gets_a_learning_rate_keeps_its_ratio():
    arms = build_config(Settings, [], ["run.name=a", "arms.sft.learning_rate=2e-4"]).arms
    assert arms["sft"] is not None and (arms["sft"].ratio, arms["sft"].learning_rate) == (0.0, 2e-4)
