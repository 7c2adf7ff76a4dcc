"""Messages for config errors: the key as written in YAML, the requirement, the value found, how to correct it."""

import pytest

from delia_ray.core.config import ConfigError, build_config
from delia_ray.settings import Settings

PYDANTIC_PHRASES = (
    "Input",
    "Field required",
    "valid tuple",
    "valid dictionary",
    "instance of",
    "Value error",
    "should",
    "discriminator",
    "magpie.",
)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("placement.finetune.workers=x", "placement.finetune.workers: must be a whole number, or be a list like [a, b], found 'x'"),
        ("synthesize.queries.topics=cooking", "synthesize.queries.topics: must be a list like [a, b], found 'cooking'"),
        ("finetune=x", "finetune: must be a section of keys, like {key: value}, found 'x'"),
        ("run.root=", "run.root: is empty; name a file or folder"),
        ("placement.cache=", "placement.cache: is empty; name a file or folder"),
        ("task={kind: messages, train: '', test: b}", "task.train: is empty; name a file or folder"),
        ("task={kind: messages, train: 2024-01-01, test: b}", "task.train: must be the path of a file or folder, found 2024-01-01"),
        ("rewrite=x", "rewrite: must be a section of keys, like {key: value}, found 'x'"),
        ("arms=[1]", "arms: must be a section of keys, like {key: value}, found [1]"),
        ("arms.a=3", "arms.a: must be a section of keys, like {key: value}, found '3'"),
        ("rewrite.kind=gramar", "rewrite: unknown kind 'gramar'; use 'grammar', 'model', 'none'"),
        ("rewrite.n=1", "rewrite: has no `kind`; use grammar, model, none, found {'n': '1'}"),
        ("task.kind=messages", "task.train: is missing; give it a value; task.test: is missing; give it a value"),
        ("synthesize.mode=forein", "synthesize.mode: must be 'direct', 'reference', 'theory' or 'foreign', found 'forein'"),
        ("mix.ratio=null", "mix.ratio: must be a number, found None"),
        ("mix.ratio=-1", "mix.ratio: must be at least 0, found '-1'"),
        ("finetune.learning_rate=0", "finetune.learning_rate: must be above 0, found '0'"),
        ("finetune.global_batch_size=3.5", "finetune.global_batch_size: must be a whole number, found '3.5'"),
        ("finetune.parameters={rank: x}", "finetune.parameters.rank: must be a whole number, found 'x'"),
        ("placement.lm_eval.python=[1]", "placement.lm_eval.python: must be the path of a file or folder, found [1]"),
        ("probe.tokens.concepts=[yes]", "probe.tokens.concepts[0]: must be text, in quotation marks if need be, found True"),
        ("synthesize.queries.topics=[]", "synthesize.queries.topics: must hold at least 1, found []"),
        ("arms={sft: null, delia: null}", "arms: none is left to train; keep at least one"),
        (
            "synthesize.queries={kind: blend, sources: [{kind: file}]}",
            "synthesize.queries.sources[0].path: is missing; give it a value",
        ),
        (
            "synthesize.queries={kind: blend, sources: [{kind: magpie}, {kind: file, path: p, columns: {query: 3}}]}",
            "synthesize.queries.sources[1].columns.query: must be text, in quotation marks if need be, found 3",
        ),
        (
            "synthesize.queries={kind: blend, sources: [{kind: file, path: a, pth: b}]}",
            "synthesize.queries.sources[0].pth: unknown key; did you mean synthesize.queries.sources[0].path?",
        ),
        (
            "synthesize.queries={kind: blend, sources: [{weight: 2}]}",
            "synthesize.queries.sources[0]: has no `kind`; use magpie, file, hub, self_instruct, found {'weight': 2}",
        ),
        (
            "synthesize.queries={kind: blend, sources: [{kind: fil}]}",
            "synthesize.queries.sources[0]: unknown kind 'fil'; use 'magpie', 'file', 'hub', 'self_instruct'",
        ),
        (
            "synthesize.queries={kind: blend, sources: [{kind: file, path: p}, {kind: file, path: p}]}",
            "synthesize.queries.sources: two are called 'p'; give one of them a `label`",
        ),
        (
            "pools={a: {queries: {kind: blend, sources: [{kind: file}]}}}",
            "pools.a.queries.sources[0].path: is missing; give it a value",
        ),
        ("placement.finetune.trackers=[wanb]", "placement.finetune.trackers[0]: must be 'tensorboard', 'wandb' or 'mlflow', found 'wanb'"),
        (
            "placement.finetune.workers=[3, 1]",
            "placement.finetune.workers: must be at least 1, or [minimum, maximum] of at least 1, found [3, 1]",
        ),
        (
            "placement.finetune.deepspeed.zero_optimization=3",
            "placement.finetune.deepspeed: zero_optimization must be a section of keys, found '3'; use zero_stage, or give its keys",
        ),
    ],
)
def test_an_error_names_the_written_key_without_pydantic_terms(override: str, message: str):
    with pytest.raises(ConfigError) as caught:
        build_config(Settings, [], ["run.name=a", override])
    assert str(caught.value) == f"config: {message}"
    assert not [phrase for phrase in PYDANTIC_PHRASES if phrase in str(caught.value)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("finetune.learning_rat=3", "finetune.learning_rat: unknown key; did you mean finetune.learning_rate?"),
        ("learning_rate=2", "learning_rate: unknown key; did you mean finetune.learning_rate?"),
        ("arms.delia.ratoi=3", "arms.delia.ratoi: unknown key; did you mean arms.delia.ratio?"),
        ("pools={a: {querys: 1}}", "pools.a.querys: unknown key; did you mean pools.a.queries?"),
        ("probe.tokens.leak_word=[a]", "probe.tokens.leak_word: unknown key; did you mean probe.tokens.leak_words?"),
        ("zzz=1", "zzz: unknown key (`delia keys` lists them)"),
        ("task={kind: format, train: 3, pairs: 3}", "task.pairs: no key of this `kind` (`delia keys` lists them)"),
    ],
)
def test_a_misspelled_key_suggests_a_similar_one(override: str, message: str):
    with pytest.raises(ConfigError) as caught:
        build_config(Settings, [], ["run.name=a", override])
    assert str(caught.value) == f"config: {message}"


@pytest.mark.parametrize("name", ["blue", "exact", "chr"])
def test_a_single_metric_is_named_without_the_list_it_is_parsed_as(name: str):
    with pytest.raises(ConfigError, match=rf"^config: task\.metric: no such metric; .*, found '{name}'$"):
        build_config(Settings, [], ["run.name=a", f"task={{kind: messages, train: a, test: b, metric: {name}}}"])


def test_an_error_in_an_inherited_value_is_reported_once_where_it_was_written():
    with pytest.raises(ConfigError) as caught:
        build_config(Settings, [], ["run.name=a", "pools={a: {}, b: {mode: foreign}}", "synthesize.queries.rows=x"])
    assert str(caught.value) == "config: synthesize.queries.rows: must be a whole number, found 'x'"


def test_a_long_value_is_truncated():
    with pytest.raises(ConfigError) as caught:
        build_config(Settings, [], ["run.name=a", f"mix.ratio={'9' * 500}x"])
    assert len(str(caught.value)) < 200
