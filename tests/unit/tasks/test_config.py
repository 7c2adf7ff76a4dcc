"""What a task may name, and what it is told where it may not."""

import json
from typing import Any

import pytest

from delia_ray.config import ConfigError, build_config
from delia_ray.settings import Settings
from delia_ray.tasks.config import MessagesTask, TranslationTask
from delia_ray.tasks.metric_names import METRIC_NAMES

MESSAGES = "kind: messages, train: a.jsonl, test: b.jsonl"
TRANSLATION = "kind: translation, source_language: Icelandic, target_language: English, pairs: {kind: file, path: p.tsv}"


def built(fields: str, *overrides: str) -> Any:
    return build_config(Settings, [], ["run.name=r", f"task={{{fields}}}", *overrides]).task


def test_one_metric_or_several_may_be_named():
    assert built(f"{MESSAGES}, metric: rouge_l").metric == ("rouge_l",)
    assert built(f"{MESSAGES}, metric: [chrf, 'mine.scores:close']").metric == ("chrf", "mine.scores:close")
    assert built(MESSAGES, "task.metric=[exact_match, contains]").metric == ("exact_match", "contains")
    assert built(MESSAGES, "task.metric=bleu").metric == ("bleu",)
    assert (built(MESSAGES).metric, built(TRANSLATION).metric) == (("exact_match",), ("chrf", "bleu"))


@pytest.mark.parametrize("name", ["exact_mtach", "format", "mine", "mine:", ":close", "mine/scores:close", "mine:close()", ""])
def test_a_metric_that_does_not_exist_is_answered_with_those_that_do(name: str):
    with pytest.raises(ConfigError) as caught:
        built(f"{MESSAGES}, metric: '{name}'")
    assert all(known in str(caught.value) for known in (*METRIC_NAMES, "module:function", repr(name), "task.metric"))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (f"{MESSAGES}, metric: []", "at least 1"),
        (f"{MESSAGES}, metric: [bleu, bleu]", "named twice"),
        (f"{MESSAGES}, metric: regex", r"set task\.pattern"),
        (f"{MESSAGES}, metric: json_schema", r"set task\.schema"),
        (f"{MESSAGES}, pattern: a+", "only metric regex reads it"),
        (f"{MESSAGES}, schema: s.json", "only metric json_schema reads it"),
        (f"{MESSAGES}, metric: regex, pattern: (", "not a regular expression"),
        (f"{TRANSLATION}, metric: json_match", "judges a form"),
        (f"{TRANSLATION}, metric: [chrf, regex]", "judges a form"),
        (f"{TRANSLATION}, test: null", "give test_pairs"),
        (f"{TRANSLATION}, dev_pairs: {{kind: file, path: d.tsv}}", "takes none of dev_pairs"),
        (f"{TRANSLATION}, token: <is>, instruction: Translate it.", r"does not name task\.token='<is>'"),
        (f'{TRANSLATION}, instruction: "Translate.\\n\\nPlease."', "make it one paragraph"),
        ("kind: translation, pairs: {kind: file, path: p.tsv}", r"source_language.*target_language"),
    ],
)
def test_parts_that_do_not_fit_are_named_with_a_way_out(fields: str, named: str):
    with pytest.raises(ConfigError, match=named):
        built(fields)


def test_the_config_of_a_run_reads_back_as_itself():
    given = built(f"{MESSAGES}, metric: [json_schema, regex], schema: s.json, pattern: a+")
    assert isinstance(given, MessagesTask)
    settings = Settings.model_validate({"run": {"name": "r"}, "task": given})
    written = settings.model_dump(mode="json")
    assert written["task"]["schema"] == "s.json"
    assert Settings.model_validate(written) == settings


def test_what_is_asked_names_the_languages_or_the_token():
    plain, token = built(TRANSLATION), built(f"{TRANSLATION}, token: <is>")
    assert isinstance(plain, TranslationTask) and isinstance(token, TranslationTask)
    assert plain.asked == "Translate this text from Icelandic into English."
    assert "<is>" in token.asked and "English" not in token.asked
    assert built(f"{TRANSLATION}, instruction: In English please.").asked == "In English please."


@pytest.mark.parametrize("kept", ['"<t>"', "'<t>'", "`<t>`"])
@pytest.mark.parametrize("fields", ["kind: format", MESSAGES, TRANSLATION])
def test_quotation_marks_around_a_token_are_no_part_of_it(fields: str, kept: str) -> None:
    with pytest.raises(ConfigError, match="has quotation marks around it, which would be part of the token; write <t>"):
        built(f"{fields}, token: {json.dumps(kept)}")
    with pytest.raises(ConfigError, match=r"task\.token: .* write <t>"):  # as a shell leaves it
        built(fields, f"task.token={kept}")
    assert built(fields, "task.token=<t>").token == "<t>"


def test_tokens_of_bleu_without_bleu_are_refused() -> None:
    with pytest.raises(ConfigError, match="bleu_tokens: found 'zh', but only metric bleu reads it"):
        built(f"{MESSAGES}, metric: chrf, bleu_tokens: zh")
    assert built(f"{TRANSLATION}, bleu_tokens: zh").bleu_tokens == "zh"
