from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from delia_ray.evaluation import kl_divergence as divergence
from delia_ray.evaluation.client import LocalTally
from delia_ray.evaluation.kl_divergence import Conversation, compute_answer_kl
from delia_ray.evaluation.metrics.kl import token_kl

SPECIAL = ["<|im_start|>", "<|im_end|>", "<sep>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONVERSATIONS: list[Conversation] = [
    ([{"role": "user", "content": "Hi"}], "Hello there."),
    ([{"role": "user", "content": "Say nothing, please."}], ""),
    ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "é?"}], "A <sep> b\n"),
    ([{"role": "user", "content": "x"}], "y" * 40),
]


def save_model(folder: Path, *, extra_rows: int = 0, noise: float = 0.0) -> Path:
    """Save a random one-layer byte-level Llama: the same weights each time, plus extra embedding rows and noise on all weights."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", additional_special_tokens=SPECIAL)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokenizer), initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight += noise * torch.randn_like(weight)
    if extra_rows:
        model.resize_token_embeddings(len(tokenizer) + extra_rows, mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"))


def by_hand(base: Path, tuned: Path, text: str, answer: str) -> list[float]:
    """KL of one conversation without padding, by the reference formula, at the answer's bytes and the position after them."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    positions = len(tokenizer(answer, add_special_tokens=False)["input_ids"]) + 1
    with torch.no_grad():
        logits = [LlamaForCausalLM.from_pretrained(folder)(ids).logits[0, -positions:].double() for folder in (base, tuned)]
    left, right = (rows.log_softmax(-1).numpy() for rows in logits)
    return token_kl(left, right[:, : left.shape[1]]).tolist()


@pytest.mark.parametrize("max_logits", [divergence._MAX_LOGITS, 1])
@pytest.mark.parametrize("extra_rows", [0, 5])
def test_divergences_are_those_of_each_row_alone_at_any_batch_size(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_logits: int, extra_rows: int
) -> None:
    monkeypatch.setattr(divergence, "_MAX_LOGITS", max_logits)
    tuned = save_model(tmp_path, extra_rows=extra_rows, noise=0.05)
    divergences = compute_answer_kl(base, tuned, CONVERSATIONS, "float32", LocalTally())
    prompts = [
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nSay nothing, please.<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\né?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n",
    ]
    assert [len(values) for values in divergences] == [len("Hello there.") + 1, 1, len("A ") + 1 + len(" b\n") + 1, 41]
    for values, prompt, (_, answer) in zip(divergences, prompts, CONVERSATIONS, strict=True):
        assert values == pytest.approx(by_hand(base, tuned, prompt + answer, answer), rel=1e-4, abs=1e-5)
        assert min(values) > 1e-4


def test_an_equal_copy_of_the_model_diverges_nowhere(base: Path, tmp_path: Path) -> None:
    divergences = compute_answer_kl(base, save_model(tmp_path), CONVERSATIONS, "float32", LocalTally())
    assert np.concatenate(divergences) == pytest.approx(0.0, abs=1e-6)


def test_the_model_itself_counts_the_same_tokens_as_a_tuned_one(base: Path, tmp_path: Path) -> None:
    own, other = LocalTally(), LocalTally()
    divergences = compute_answer_kl(base, base, CONVERSATIONS, "float32", own)
    tuned = compute_answer_kl(base, save_model(tmp_path, noise=0.05), CONVERSATIONS, "float32", other)
    assert [len(values) for values in divergences] == [len(values) for values in tuned]
    assert sum(map(sum, divergences)) == 0.0
    assert own.read() == other.read() == (4, sum(map(len, tuned)))


def test_the_further_the_weights_move_the_larger_the_divergence(base: Path, tmp_path: Path) -> None:
    near, far = (save_model(tmp_path / str(noise), noise=noise) for noise in (0.01, 0.1))
    means = [np.concatenate(compute_answer_kl(base, tuned, CONVERSATIONS, "float32", LocalTally())).mean() for tuned in (near, far)]
    assert 0 < means[0] < means[1] / 10
