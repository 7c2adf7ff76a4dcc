"""A new token in a tiny random Llama whose rows are set so that every number is known beforehand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from delia_ray.core.errors import UserError
from delia_ray.evaluation.client import LocalTally
from delia_ray.models import load_model, load_tokenizer
from delia_ray.probing.tokens.config import TokenProbeConfig
from delia_ray.probing.tokens.lens import cosine_rank, find_nearest, logit_lens, row_cosines
from delia_ray.probing.tokens.probe import ModelProbe, TokenProbeJob, TokenProbeResult
from delia_ray.probing.tokens.prompts import MentionPrompt, SubstitutionPrompt, make_leak_prompts, render_carriers
from delia_ray.probing.tokens.states import HiddenStateReader, TokenRows, WordTokens, copy_rows, make_control_rows, set_rows, tokenize_word

TOKEN = "<sep>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG = TokenProbeConfig(
    concepts=("x", "json"), leak_words=("json",), meaning="x", carriers=50, random_words=20, answer_tokens=4, resamples=1000, prompts=2
)


def save_model(folder: Path, *, copied: str | None = None, seed: int = 0, tied: bool = True) -> Path:
    """Two layers over single letters; the token's rows are those of the letter ``copied``, or its own."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", TOKEN]
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|im_end|>", additional_special_tokens=special
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokenizer), initializer_range=0.3, tie_word_embeddings=tied, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    if copied:
        source, target = tokenizer.convert_tokens_to_ids([copied, TOKEN])
        set_rows(model, target, copy_rows(model, source))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_job(token: str = TOKEN) -> TokenProbeJob:
    def turn(text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    pairs = [SubstitutionPrompt("a", turn(f"Write {token}."), turn("Write x.")), SubstitutionPrompt("b", turn(f"{token}?"), turn("x?"))]
    triples = [MentionPrompt("c", turn("Hi."), turn(f"Hi. No {token}."), turn(f"Hi. Do {token}."))]
    return TokenProbeJob(CONFIG, token, pairs, triples, with_mean=True, in_format=True)


def probe(folder: Path, base: Path) -> TokenProbeResult:
    return ModelProbe("arm", folder, base, make_job(), "float32", LocalTally()).run()


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model, its token made the same as the letter x."""
    return save_model(tmp_path_factory.mktemp("copied"), copied="x")


@pytest.fixture(scope="module")
def result(copied: Path, base_folder: Path) -> TokenProbeResult:
    return probe(copied, base_folder)


def test_a_token_with_a_words_row_is_at_that_word_in_every_layer(result: TokenProbeResult):
    own = result.model.rows["own"].distances["x"]
    assert len(own.cosine.value) == 3
    assert own.cosine.value == pytest.approx([1.0] * 3, abs=1e-5)
    assert own.normalized.value == pytest.approx([0.0] * 3, abs=1e-3)
    assert own.further == [1.0] * 3
    assert min(result.model.rows["own"].distances["json"].normalized.value) > 0.1


def test_a_token_with_a_words_row_has_it_for_a_neighbor_in_first_place(result: TokenProbeResult):
    own = result.model.rows["own"]
    assert (own.ranks["x"].input, own.ranks["x"].output) == (1, 1)
    assert (own.neighbors[0].text, own.neighbors[0].value) == ("x", pytest.approx(1.0))
    assert own.ranks["json"].input > 1


def test_a_token_that_is_the_word_stands_in_for_the_word_and_an_untrained_one_does_not(result: TokenProbeResult):
    own, fresh = result.model.rows["own"].substitution, result.model.rows["fresh"].substitution
    assert own and fresh
    assert own.value == pytest.approx(0.0, abs=1e-4)
    assert fresh.value is not None and fresh.value > 0.01


def test_the_fresh_row_is_the_base_models(result: TokenProbeResult, base_folder: Path):
    untuned = probe(base_folder, base_folder)
    assert list(untuned.model.rows) == ["own", "noise", "mean"]
    assert list(result.model.rows) == ["own", "fresh", "noise", "mean"]
    untrained, fresh = untuned.model.rows["own"], result.model.rows["fresh"]
    # The two models differ in nothing but the token's row.
    assert fresh.distances["x"].cosine.value == pytest.approx(untrained.distances["x"].cosine.value, abs=1e-5)
    assert fresh.neighbors[0] == untrained.neighbors[0]
    assert fresh.negated.value == pytest.approx(untrained.negated.value, abs=1e-5)


def test_every_answer_is_kept_with_the_row_that_gave_it(result: TokenProbeResult):
    prompts = len(make_leak_prompts(TOKEN))
    kinds = [(each["probe"], each["row"]) for each in result.answers]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("spelled", "own"): 2,
        ("plain", "own"): 1,
        **{("leak", row): prompts for row in ("own", "fresh", "noise", "mean")},
    }


def test_progress_counts_to_the_end(copied: Path, base_folder: Path):
    tally = LocalTally()
    for folder in (base_folder, copied):
        ModelProbe("arm", folder, base_folder, make_job(), "float32", tally).run()
    assert tally.read()[0] == make_job().count_steps(2)


def test_a_words_state_is_the_one_it_has_in_the_whole_text(base_folder: Path):
    tokenizer, model = load_tokenizer(base_folder), load_model(base_folder, torch.float32).eval()
    prefixes = render_carriers(tokenizer, 50)
    reader = HiddenStateReader(model)
    words = [tokenize_word(tokenizer, prefixes, word, "mean") for word in ("x", "json", TOKEN)]
    assert [len(tokens.positions) for tokens in words] == [1, 4, 1]
    cache = reader.compute_cache(tokenizer(prefixes[3], add_special_tokens=False)["input_ids"])
    states_WKD = reader.read_states(cache, words)
    for word, tokens, state_KD in zip(("x", "json", TOKEN), words, states_WKD, strict=True):
        ids = tokenizer(f"{prefixes[3]} {word} and more", add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            hidden_states = model(ids, output_hidden_states=True).hidden_states
        end = len(tokenizer(f"{prefixes[3]} {word}", add_special_tokens=False)["input_ids"])
        positions = slice(end - len(tokens.positions), end)
        for layer in range(2):
            assert torch.allclose(state_KD[layer], hidden_states[layer][0, positions].mean(0), atol=1e-5)
        if len(tokens.positions) == 1:
            assert torch.allclose(model.model.norm(state_KD[-1]), hidden_states[-1][0, end - 1], atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_the_lens_of_the_last_layer_is_what_the_model_expects_next(tmp_path: Path, tied: bool):
    folder = save_model(tmp_path, tied=tied)
    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.float32).eval()
    reader = HiddenStateReader(model)
    prefix = render_carriers(tokenizer, 50)[0]
    own = tokenize_word(tokenizer, [prefix], TOKEN, "last")
    states_1KD = reader.read_states(reader.compute_cache(tokenizer(prefix, add_special_tokens=False)["input_ids"]), [own])
    *_, last_V = logit_lens(model, states_1KD)
    with torch.no_grad():
        logits = model(tokenizer(f"{prefix} {TOKEN}", add_special_tokens=False, return_tensors="pt")["input_ids"]).logits
    assert torch.allclose(last_V, logits[0, -1].softmax(-1), atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_are_set_are_the_models_until_others_are(tmp_path: Path, tied: bool):
    model = load_model(save_model(tmp_path, tied=tied), torch.float32)
    before = copy_rows(model, 258)
    rows = make_control_rows(model, 258, TokenRows(torch.ones(32), torch.ones(32)), seed=0, with_mean=True)
    assert list(rows) == ["own", "fresh", "noise", "mean"]
    assert torch.allclose(rows["mean"].input_D, model.get_input_embeddings().weight[:258].mean(0))
    for name in ("noise", "own"):
        set_rows(model, 258, rows[name])
        assert all(torch.equal(*pair) for pair in zip(copy_rows(model, 258), rows[name], strict=True))
    assert all(torch.equal(*pair) for pair in zip(copy_rows(model, 258), before, strict=True))


def test_ranks_count_the_rows_that_are_nearer():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 1.0])
    table_VD = torch.stack([angles.cos(), angles.sin()], 1)
    assert [cosine_rank(table_VD, table_VD[0], 0, [piece], entries=5) for piece in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert cosine_rank(table_VD, table_VD[0], 0, [1, 4], entries=5) == 3  # between them, at about 0.55
    assert row_cosines(table_VD, table_VD[0]).tolist() == pytest.approx([math.cos(angle) for angle in angles.tolist()])


def test_a_word_that_the_tokenizer_joins_with_what_comes_before_it_is_refused():
    class JoiningTokenizer:
        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [hash(text)]}

    with pytest.raises(UserError, match=r"probe\.tokens\.concepts: .* joins 'x'"):
        tokenize_word(JoiningTokenizer(), ["before"], "x", "mean")


def test_neighbors_leave_out_the_token_itself_and_rows_that_only_pad(base_folder: Path):
    tokenizer = load_tokenizer(base_folder)
    cosines = torch.linspace(-1, 1, len(tokenizer) + 5)
    words = find_nearest(tokenizer, cosines, len(tokenizer) - 1, count=2)
    assert [word.value for word in words] == pytest.approx(cosines[len(tokenizer) - 3 : len(tokenizer) - 1].flip(0).tolist())


def test_word_tokens_know_the_entries_that_represent_them():
    assert WordTokens((7, 8, 9), (1, 2)).pieces == [8, 9]
