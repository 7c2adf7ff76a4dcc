"""The model to tune before it is tuned: its new rows, its chat template, its precision."""

from pathlib import Path
from typing import Any

import pytest
import torch

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import UserError
from delia_ray.models import add_new_tokens, detect_chat_format, load_model, load_tokenizer, token_ids
from delia_ray.tasks.config import CopyInit, DescriptionInit, MeanInit, NoiseInit
from delia_ray.training.data.tokens import tokenize

TOKEN = "<sep>"


def tables(folder: Path) -> list[torch.Tensor]:
    """[V, D] each: the rows that are read, and those that score."""
    model = load_model(folder, torch.float32)
    return [layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())]


def expected(old_VD: torch.Tensor, init: Any, tokenizer: Any) -> torch.Tensor:
    """[D]"""
    match init:
        case NoiseInit(seed=seed):
            return old_VD.mean(0) + torch.randn(1, old_VD.shape[1], generator=torch.Generator().manual_seed(seed))[0] * old_VD.std(0)
        case DescriptionInit(text=text):
            return old_VD[tokenizer(text, add_special_tokens=False)["input_ids"]].mean(0)
        case CopyInit(token=token):
            return old_VD[tokenizer.convert_tokens_to_ids(token)]
        case _:
            return old_VD.mean(0)


@pytest.mark.parametrize(
    "init",
    [MeanInit(), NoiseInit(seed=3), DescriptionInit(kind="description", text="a verdict"), CopyInit(kind="copy", token="<|im_end|>")],
    ids=lambda init: init.kind,
)
@pytest.mark.parametrize(("tied", "multiple"), [(False, 1), (False, 64), (True, 64)])
def test_a_new_token_starts_as_asked_and_leaves_every_other_row_alone(
    tiny_models: dict[str, Artifact], tied_model: Artifact, tmp_path: Path, init: Any, tied: bool, multiple: int
):
    model = tied_model if tied else tiny_models["one"]
    add_new_tokens(model.data, [TOKEN], init, multiple, tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out")
    [token] = token_ids(tokenizer, [TOKEN])
    assert tokenizer(f"x {TOKEN} y", add_special_tokens=False)["input_ids"].count(token) == 1
    for old, new in zip(tables(model.data), tables(tmp_path / "out"), strict=True):
        assert torch.equal(new[: len(old)], old) and token == len(old)
        assert len(new) % multiple == 0 and len(new) - len(old) <= multiple
        assert torch.allclose(new[token], expected(old, init, tokenizer), atol=1e-6)
        assert torch.allclose(new[token + 1 :], old.mean(0), atol=1e-6)


def test_a_token_to_copy_must_be_known(tiny_models: dict[str, Artifact], tmp_path: Path):
    with pytest.raises(UserError, match=r"task\.token_init\.token: '<none>' is not in the vocabulary"):
        add_new_tokens(tiny_models["one"].data, [TOKEN], CopyInit(kind="copy", token="<none>"), 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_token_that_the_model_knows_is_refused(tiny_models: dict[str, Artifact], tmp_path: Path):
    with pytest.raises(UserError, match="already in the vocabulary"):
        add_new_tokens(tiny_models["one"].data, ["<|im_end|>"], MeanInit(), 1, tmp_path / "out")


def test_stopping_is_learned_though_padding_is_the_same_token(tiny_models: dict[str, Artifact]):
    tokenizer = load_tokenizer(tiny_models["one"].data)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    messages = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello."}]
    [row] = tokenize(tokenizer, [{"example_id": "x", "group": "task", "messages": messages, "label": None}], "answer")  # pyright: ignore[reportArgumentType]
    learned = [token for token, kind in zip(row.ids, row.kinds, strict=True) if kind]
    assert tokenizer.decode(learned) == "Hello.<|im_end|>"
    assert row.ids.count(tokenizer.eos_token_id) == 3


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "writes no special token after an answer"),
        (
            "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}",
            "writes no special token after an answer",
        ),
    ],
)
def test_a_template_that_cannot_be_trained_on_is_refused(tiny_models: dict[str, Artifact], template: str | None, named: str):
    tokenizer = load_tokenizer(tiny_models["one"].data)
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=named):
        detect_chat_format(tokenizer, "m")
