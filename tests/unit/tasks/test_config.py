"""Validation of task configs."""

import json
from typing import Any

import pytest

from delia_ray.core.config import ConfigError, build_config
from delia_ray.settings import Settings
from delia_ray.tasks.answer_metrics import ANSWER_METRICS
from delia_ray.tasks.config import MessagesTask, TranslationTask

MESSAGES = "kind: messages, train: a.jsonl, test: b.jsonl"
TRANSLATION = "kind: translation, source_language: Icelandic, target_language: English, pairs: {kind: file, path: p.tsv}"


def build_task(fields: str, *overrides: str) -> Any:
    return build_config(Settings, [], ["run.name=r", f"task={{{fields}}}", *overrides]).task


def test_one_metric_or_several_may_be_named():
    assert build_task(f"{MESSAGES}, metric: rouge_l").metric == ("rouge_l",)
    assert build_task(f"{MESSAGES}, metric: [chrf, 'mine.scores:close']").metric == ("chrf", "mine.scores:close")
    assert build_task(MESSAGES, "task.metric=[exact_match, contains]").metric == ("exact_match", "contains")
    assert build_task(MESSAGES, "task.metric=bleu").metric == ("bleu",)
    assert (build_task(MESSAGES).metric, build_task(TRANSLATION).metric) == (("exact_match",), ("chrf", "bleu"))


@pytest.mark.parametrize("name", ["exact_mtach", "format", "mine", "mine:", ":close", "mine/scores:close", "mine:close()", ""])
def test_an_unknown_metric_is_refused_with_the_known_ones(name: str):
    with pytest.raises(ConfigError) as caught:
        build_task(f"{MESSAGES}, metric: '{name}'")
    assert all(expected in str(caught.value) for expected in (*ANSWER_METRICS, "module:function", repr(name), "task.metric"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (f"{MESSAGES}, metric: []", "at least 1"),
        (f"{MESSAGES}, metric: [bleu, bleu]", "named twice"),
        (f"{MESSAGES}, metric: regex", r"set task\.pattern"),
        (f"{MESSAGES}, metric: json_schema", r"set task\.schema"),
        (f"{MESSAGES}, pattern: a+", "only metric regex reads it"),
        (f"{MESSAGES}, schema: s.json", "only metric json_schema reads it"),
        (f"{MESSAGES}, metric: regex, pattern: (", "not a regular expression"),
        (f"{TRANSLATION}, metric: json_match", "checks a format"),
        (f"{TRANSLATION}, metric: [chrf, regex]", "checks a format"),
        (f"{TRANSLATION}, test: null", "give test_pairs"),
        (f"{TRANSLATION}, dev_pairs: {{kind: file, path: d.tsv}}", "takes none of dev_pairs"),
        (f"{TRANSLATION}, token: <is>, instruction: Translate it.", r"does not name task\.token='<is>'"),
        (f'{TRANSLATION}, instruction: "Translate.\\n\\nPlease."', "make it one paragraph"),
        ("kind: translation, pairs: {kind: file, path: p.tsv}", r"source_language.*target_language"),
    ],
)
def test_inconsistent_options_are_refused_with_a_correction(fields: str, message: str):
    with pytest.raises(ConfigError, match=message):
        build_task(fields)


def test_a_dumped_config_parses_to_itself():
    task = build_task(f"{MESSAGES}, metric: [json_schema, regex], schema: s.json, pattern: a+")
    assert isinstance(task, MessagesTask)
    settings = Settings.model_validate({"run": {"name": "r"}, "task": task})
    dumped = settings.model_dump(mode="json")
    assert dumped["task"]["schema"] == "s.json"
    assert Settings.model_validate(dumped) == settings


def test_the_default_instruction_names_the_languages_or_the_token():
    plain, token = build_task(TRANSLATION), build_task(f"{TRANSLATION}, token: <is>")
    assert isinstance(plain, TranslationTask) and isinstance(token, TranslationTask)
    assert plain.resolved_instruction == "Translate this text from Icelandic into English."
    assert "<is>" in token.resolved_instruction and "English" not in token.resolved_instruction
    assert build_task(f"{TRANSLATION}, instruction: In English please.").resolved_instruction == "In English please."


@pytest.mark.parametrize("quoted", ['"<t>"', "'<t>'", "`<t>`"])
@pytest.mark.parametrize("fields", ["kind: format", MESSAGES, TRANSLATION])
def test_quotation_marks_around_a_token_are_refused(fields: str, quoted: str) -> None:
    with pytest.raises(ConfigError, match="has quotation marks around it, which would be part of the token; write <t>"):
        build_task(f"{fields}, token: {json.dumps(quoted)}")
    with pytest.raises(ConfigError, match=r"task\.token: .* write <t>"):  # from a shell
        build_task(fields, f"task.token={quoted}")
    assert build_task(fields, "task.token=<t>").token == "<t>"


def test_tokens_of_bleu_without_bleu_are_refused() -> None:
    with pytest.raises(ConfigError, match="bleu_tokens: found 'zh', but only metric bleu reads it"):
        build_task(f"{MESSAGES}, metric: chrf, bleu_tokens: zh")
    assert build_task(f"{TRANSLATION}, bleu_tokens: zh").bleu_tokens == "zh"
