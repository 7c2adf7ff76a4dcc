"""Low-rank adapters on the layers of a model that can carry one, found and tried on a model without weights."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import linear
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from delia_ray.errors import UserError
from delia_ray.training.adapter import fuse_sums
from delia_ray.training.config import Lora

_ALL = "all-linear"
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError)
"""What the code of an architecture raises where it meets something that it was not written for."""
_PLAIN: Mapping[str, Mapping[str, Any]] = {
    "dropout=0": {"dropout": 0.0},
    "variant=plain": {"variant": "plain"},
    "dropout=0 and finetune.parameters.variant=plain": {"dropout": 0.0, "variant": "plain"},
}
"""What PEFT may take an adapter with that it refuses otherwise."""
_TRIED_TOKENS = 8


def attach_lora(model: Any, folder: Path, lora: Lora) -> Any:
    """``model``, loaded from ``folder``, with an adapter on each target that can carry one.

    Raises:
        UserError: the model has no such layers, or one of them cannot carry an adapter.
    """
    left_out = layers_left_out(folder, lora)
    try:
        adapted = get_peft_model(model, _peft_config(lora, left_out), autocast_adapter_dtype=False)
    except ValueError as error:
        raise UserError(_refusal(_load_config(folder), lora, left_out, str(error).splitlines()[0])) from None
    _check_ties(adapted, lora)
    fuse_sums(adapted)
    return adapted


def check_lora(folder: Path, lora: Lora) -> None:
    """Refuse an adapter that could not be trained, by the model's configuration alone: it is attached and run without weights.

    Raises:
        UserError: the model has no such layers, PEFT refuses them, or the model does not run with an adapter there.
    """
    config, left_out, tried = _load_config(folder), layers_left_out(folder, lora), lora.model_copy(update={"rank": 1})
    # Fake tensors have a device to be asked for and hold nothing: unlike meta ones, most models run on them.
    nothing = FakeTensorMode(allow_non_fake_inputs=True)
    with nothing:
        model = _skeleton(config)
    try:
        adapted = get_peft_model(model, _peft_config(tried, left_out), autocast_adapter_dtype=False)
    except ValueError as error:
        raise UserError(_refusal(config, lora, left_out, str(error).splitlines()[0])) from None
    _check_ties(adapted, lora)
    if error := _run_error(adapted, nothing):
        with nothing:
            model = _skeleton(config)
        if not _run_error(model, nothing):  # some kernels cannot be tried so; training will tell
            raise UserError(
                f"finetune.parameters.targets: {config.model_type} does not run with an adapter on each of "
                f"{', '.join(_linear_leaves(model))} ({error}); name some of them, or set finetune.parameters.kind=full"
            )


def layers_left_out(folder: Path, lora: Lora) -> list[str]:
    """Names of layers that ``all-linear`` does not mean, since an adapter's sum would not be a part of what the model computes.

    Routers of experts are often linear layers by their class and give several tensors; a state space model hands the weights of its
    output projection to a kernel, past any adapter, and PEFT refuses it. The same on every machine.

    Raises:
        UserError: a target that is named is such a layer, or the name of none.
    """
    config = _load_config(folder)
    with torch.device("meta"):
        model = _skeleton(config)
        odd = {name for name, layer in _linear_layers(model).items() if not _is_linear(layer)}
        if lora.targets != _ALL:
            _refuse_unknown(model, lora.targets)
            if named := {_leaf(name) for name in odd} & {_leaf(target) for target in lora.targets}:
                raise UserError(
                    f"finetune.parameters.targets: {', '.join(sorted(named))} of {config.model_type} is no plain linear layer, which no "
                    f"adapter can be added to; name others, or {_ALL}, which leaves it out"
                )
            return []
        plain = Lora(rank=1, dropout=0.0)
        if not _attach_error(config, plain, odd):
            return sorted(odd)
        leaves = _linear_leaves(model, odd)
        refused = {leaf for leaf in leaves if _attach_error(config, plain.model_copy(update={"targets": (leaf,)}), odd)}
        return sorted(odd | {name for name in _linear_layers(model) if _leaf(name) in refused})


def _refuse_unknown(model: Any, targets: Collection[str]) -> None:
    """Refuse a name that no layer has: where another has one, PEFT would leave it out without a word."""
    names = [f".{name}" for name, _ in model.named_modules()]
    if unknown := [target for target in targets if not any(name.endswith(f".{target}") for name in names)]:
        raise UserError(
            f"finetune.parameters.targets: no layer of {model.config.model_type} is called {', '.join(unknown)}; the model has "
            f"{', '.join(_linear_leaves(model))}"
        )


def _peft_config(lora: Lora, left_out: Collection[str]) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]  alpha may be fractional
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        exclude_modules=sorted(left_out) or None,
        use_rslora=lora.variant == "rslora",
        use_dora=lora.variant == "dora",
        task_type="CAUSAL_LM",
    )


def _check_ties(adapted: Any, lora: Lora) -> None:
    """Refuse an adapter on one of two tied tables: merged, it would be in both."""
    tables = (adapted.get_input_embeddings(), adapted.get_output_embeddings())
    if tables[0].weight is tables[1].weight and any(isinstance(table, LoraLayer) for table in tables):
        raise UserError(
            f"finetune.parameters.targets: {', '.join(lora.targets)} has a table that the model both reads and scores with, which an "
            "adapter can not tell apart; name other layers: new tokens' rows are trained without it"
        )


def _refusal(config: Any, lora: Lora, left_out: Collection[str], error: str) -> str:
    """What PEFT said, and a way out: a setting that it takes the adapter with, or else the names that there are."""
    with torch.device("meta"):
        ways = (way for way, plain in _PLAIN.items() if not _attach_error(config, lora.model_copy(update=plain), left_out))
        if way := next(ways, None):
            return f"finetune.parameters: {config.model_type} takes no such adapter ({error}); set finetune.parameters.{way}"
        named = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
        return f"finetune.parameters.targets: {named} ({error}); the model has {', '.join(_linear_leaves(_skeleton(config)))}"


def _load_config(folder: Path) -> Any:
    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _skeleton(config: Any) -> Any:
    """The model without weights, in a precision that all kernels know."""
    return AutoModelForCausalLM.from_config(deepcopy(config), dtype=torch.bfloat16, trust_remote_code=False)


def _linear_layers(model: Any) -> dict[str, nn.Module]:
    """What PEFT takes for linear, but for the table that scores tokens."""
    head = model.get_output_embeddings()
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D) and layer is not head}


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _linear_leaves(model: Any, without: Collection[str] = ()) -> list[str]:
    return sorted({_leaf(name) for name in _linear_layers(model) if name not in without})


def _is_linear(layer: nn.Module) -> bool:
    """Whether ``layer``, which has no weights yet, computes the product of its input and its weight, and nothing else."""
    if type(layer).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    tried: Any = deepcopy(layer).to_empty(device="cpu").float()
    with torch.device("cpu"), torch.no_grad():
        for weight in tried.parameters():
            weight.normal_()
        inputs = torch.randn(_TRIED_TOKENS, tried.in_features)
        try:
            outputs = tried(inputs)
        except _FAILURES:
            return False
        product = linear(inputs, tried.weight, tried.bias)
    return isinstance(outputs, torch.Tensor) and outputs.shape == product.shape and torch.allclose(outputs, product, rtol=1e-3, atol=1e-3)


def _attach_error(config: Any, lora: Lora, left_out: Collection[str]) -> str:
    """Why PEFT refuses the adapter, in a line; empty where it does not."""
    try:
        get_peft_model(_skeleton(config), _peft_config(lora, left_out), autocast_adapter_dtype=False)
    except ValueError as error:
        return str(error).splitlines()[0]
    return ""


def _run_error(model: Any, nothing: FakeTensorMode) -> str:
    """Why ``model`` does not run, in a line; empty where it does."""
    try:
        with nothing, torch.no_grad():
            model(input_ids=torch.zeros(1, _TRIED_TOKENS, dtype=torch.long), use_cache=False)
    except _FAILURES as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""
