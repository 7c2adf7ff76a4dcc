"""A new token in a tiny random Llama whose rows are set so that every number is known beforehand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from delia_ray.errors import UserError
from delia_ray.evaluation.client import LocalTally
from delia_ray.models import load_model, load_tokenizer
from delia_ray.probing.token_config import TokenProbe
from delia_ray.probing.token_lens import lens, nearest, row_cosines, row_rank
from delia_ray.probing.token_probe import Found, ModelProbe, Questions
from delia_ray.probing.token_prompts import Mention, Substitution, carrier_prefixes, leak_prompts
from delia_ray.probing.token_states import Rows, StateReader, Tail, control_rows, rows_of, set_rows, word_tail

TOKEN = "<sep>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG = TokenProbe(
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
        set_rows(model, target, rows_of(model, source))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def questions(token: str = TOKEN) -> Questions:
    def turn(text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    pairs = [Substitution("a", turn(f"Write {token}."), turn("Write x.")), Substitution("b", turn(f"{token}?"), turn("x?"))]
    triples = [Mention("c", turn("Hi."), turn(f"Hi. No {token}."), turn(f"Hi. Do {token}."))]
    return Questions(CONFIG, token, pairs, triples, with_mean=True, in_format=True)


def look(folder: Path, start: Path) -> Found:
    return ModelProbe("arm", folder, start, questions(), "float32", LocalTally()).look()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The start model, its token made the same as the letter x."""
    return save_model(tmp_path_factory.mktemp("copied"), copied="x")


@pytest.fixture(scope="module")
def found(copied: Path, start: Path) -> Found:
    return look(copied, start)


def test_a_token_with_a_words_row_is_at_that_word_in_every_layer(found: Found):
    own = found.model.rows["own"].distances["x"]
    assert len(own.cosine.value) == 3
    assert own.cosine.value == pytest.approx([1.0] * 3, abs=1e-5)
    assert own.normalised.value == pytest.approx([0.0] * 3, abs=1e-3)
    assert own.further == [1.0] * 3
    assert min(found.model.rows["own"].distances["json"].normalised.value) > 0.1


def test_a_token_with_a_words_row_has_it_for_a_neighbour_in_first_place(found: Found):
    own = found.model.rows["own"]
    assert (own.ranks["x"].input, own.ranks["x"].output) == (1, 1)
    assert (own.neighbours[0].text, own.neighbours[0].value) == ("x", pytest.approx(1.0))
    assert own.ranks["json"].input > 1


def test_a_token_that_is_the_word_stands_in_for_the_word_and_an_untrained_one_does_not(found: Found):
    own, fresh = found.model.rows["own"].substitution, found.model.rows["fresh"].substitution
    assert own and fresh
    assert own.value == pytest.approx(0.0, abs=1e-4)
    assert fresh.value is not None and fresh.value > 0.01


def test_the_fresh_row_is_the_start_models(found: Found, start: Path):
    before = look(start, start)
    assert list(before.model.rows) == ["own", "noise", "mean"]
    assert list(found.model.rows) == ["own", "fresh", "noise", "mean"]
    untrained, fresh = before.model.rows["own"], found.model.rows["fresh"]
    # The two models differ in nothing but the token's row.
    assert fresh.distances["x"].cosine.value == pytest.approx(untrained.distances["x"].cosine.value, abs=1e-5)
    assert fresh.neighbours[0] == untrained.neighbours[0]
    assert fresh.negated.value == pytest.approx(untrained.negated.value, abs=1e-5)


def test_every_answer_is_kept_with_the_row_that_gave_it(found: Found):
    asked = len(leak_prompts(TOKEN))
    kinds = [(each["probe"], each["row"]) for each in found.said]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("spelled", "own"): 2,
        ("plain", "own"): 1,
        **{("leak", row): asked for row in ("own", "fresh", "noise", "mean")},
    }


def test_progress_counts_to_the_end(copied: Path, start: Path):
    tally = LocalTally()
    for folder in (start, copied):
        ModelProbe("arm", folder, start, questions(), "float32", tally).look()
    assert tally.read()[0] == questions().steps(2)


def test_a_words_state_is_the_one_it_has_in_the_whole_text(start: Path):
    tokenizer, model = load_tokenizer(start), load_model(start, torch.float32).eval()
    prefixes = carrier_prefixes(tokenizer, 50)
    reader = StateReader(model)
    tails = [word_tail(tokenizer, prefixes, word, "mean") for word in ("x", "json", TOKEN)]
    assert [len(tail.read) for tail in tails] == [1, 4, 1]
    kept = reader.prefix(tokenizer(prefixes[3], add_special_tokens=False)["input_ids"])
    states_WKD = reader.after(kept, tails)
    for word, tail, found_KD in zip(("x", "json", TOKEN), tails, states_WKD, strict=True):
        ids = tokenizer(f"{prefixes[3]} {word} and more", add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            seen = model(ids, output_hidden_states=True).hidden_states
        end = len(tokenizer(f"{prefixes[3]} {word}", add_special_tokens=False)["input_ids"])
        places = slice(end - len(tail.read), end)
        for layer in range(2):
            assert torch.allclose(found_KD[layer], seen[layer][0, places].mean(0), atol=1e-5)
        if len(tail.read) == 1:
            assert torch.allclose(model.model.norm(found_KD[-1]), seen[-1][0, end - 1], atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_the_lens_of_the_last_layer_is_what_the_model_expects_next(tmp_path: Path, tied: bool):
    folder = save_model(tmp_path, tied=tied)
    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.float32).eval()
    reader = StateReader(model)
    prefix = carrier_prefixes(tokenizer, 50)[0]
    own = word_tail(tokenizer, [prefix], TOKEN, "last")
    states_1KD = reader.after(reader.prefix(tokenizer(prefix, add_special_tokens=False)["input_ids"]), [own])
    *_, last_V = lens(model, states_1KD)
    with torch.no_grad():
        logits = model(tokenizer(f"{prefix} {TOKEN}", add_special_tokens=False, return_tensors="pt")["input_ids"]).logits
    assert torch.allclose(last_V, logits[0, -1].softmax(-1), atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_are_set_are_the_models_until_others_are(tmp_path: Path, tied: bool):
    model = load_model(save_model(tmp_path, tied=tied), torch.float32)
    before = rows_of(model, 258)
    rows = control_rows(model, 258, Rows(torch.ones(32), torch.ones(32)), seed=0, with_mean=True)
    assert list(rows) == ["own", "fresh", "noise", "mean"]
    assert torch.allclose(rows["mean"].input_D, model.get_input_embeddings().weight[:258].mean(0))
    for name in ("noise", "own"):
        set_rows(model, 258, rows[name])
        assert all(torch.equal(*pair) for pair in zip(rows_of(model, 258), rows[name], strict=True))
    assert all(torch.equal(*pair) for pair in zip(rows_of(model, 258), before, strict=True))


def test_places_count_the_rows_that_are_nearer():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 1.0])
    table_VD = torch.stack([angles.cos(), angles.sin()], 1)
    assert [row_rank(table_VD, table_VD[0], 0, [place], entries=5) for place in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert row_rank(table_VD, table_VD[0], 0, [1, 4], entries=5) == 3  # between them, at about 0.55
    assert row_cosines(table_VD, table_VD[0]).tolist() == pytest.approx([math.cos(angle) for angle in angles.tolist()])


def test_a_word_that_the_tokenizer_joins_with_what_comes_before_it_is_refused():
    class Joining:
        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [hash(text)]}

    with pytest.raises(UserError, match=r"probe\.tokens\.concepts: .* joins 'x'"):
        word_tail(Joining(), ["before"], "x", "mean")


def test_neighbours_leave_out_the_token_itself_and_rows_that_only_pad(start: Path):
    tokenizer = load_tokenizer(start)
    cosines = torch.linspace(-1, 1, len(tokenizer) + 5)
    words = nearest(tokenizer, cosines, len(tokenizer) - 1, count=2)
    assert [word.value for word in words] == pytest.approx(cosines[len(tokenizer) - 3 : len(tokenizer) - 1].flip(0).tolist())


def test_a_tail_knows_the_entries_it_is_read_as():
    assert Tail((7, 8, 9), (1, 2)).pieces == [8, 9]
