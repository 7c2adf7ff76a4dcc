"""Whether the loss of a model is random in training."""

from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from delia_ray.training.config import Neftune, Sft
from delia_ray.training.model import Trainable
from delia_ray.training.objective import is_stochastic

LLAMA = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 16}
GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 16, "n_positions": 8}
SIZES = {"num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 16, "max_position_embeddings": 8}
OPT: dict[str, Any] = {"hidden_size": 8, "ffn_dim": 8, **SIZES}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "summary_first_dropout": 0.0}


def llama(adapter_dropout: float | None = None, **changed: float) -> Trainable:
    model = LlamaForCausalLM(LlamaConfig(**LLAMA, **changed))  # pyright: ignore[reportArgumentType]
    if adapter_dropout is None:
        return Trainable(model, None, "full")
    lora = LoraConfig(r=2, lora_dropout=adapter_dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    return Trainable(get_peft_model(model, lora), None, "adapter")


@pytest.mark.parametrize(
    ("trainable", "stochastic"),
    [
        (llama(), False),
        (llama(adapter_dropout=0.0), False),
        (llama(adapter_dropout=0.1), True),
        (llama(attention_dropout=0.1), True),
        (llama(adapter_dropout=0.0, attention_dropout=0.1), True),
        (Trainable(GPT2LMHeadModel(GPT2Config(**GPT2)), None, "full"), True),  # pyright: ignore[reportArgumentType]
        (Trainable(GPT2LMHeadModel(GPT2Config(**GPT2, **NO_DROPOUT)), None, "full"), False),  # pyright: ignore[reportArgumentType]
        (Trainable(OPTForCausalLM(OPTConfig(**OPT)), None, "full"), True),  # a number in the configuration that no module holds
    ],
)
def test_dropout_of_the_adapter_or_of_the_model_is_stochastic(trainable: Trainable, stochastic: bool):
    assert is_stochastic(trainable, Sft(kind="sft")) is stochastic
    assert is_stochastic(trainable, Neftune(kind="neftune"))
