"""LoRA adapters: the linear layers of a model that can have one, and a check of the adapter on the model without its weights."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn.functional import linear
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from delia_ray.core.errors import UserError
from delia_ray.training.config import Lora
from delia_ray.training.zero3 import let_peft_gather
from delia_ray.upstream.torch_internals import FakeTensorMode

_ALL = "all-linear"
_KEY = "finetune.parameters"
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError)
"""Exceptions that the code of an architecture raises on unexpected layers or inputs."""
_ALTERNATIVES: Mapping[str, Mapping[str, Any]] = {
    "dropout=0": {"dropout": 0.0},
    "variant=plain": {"variant": "plain"},
    "dropout=0 and {key}.variant=plain": {"dropout": 0.0, "variant": "plain"},
}
"""Settings with which PEFT may accept an adapter that it otherwise rejects: text after ``{key}.`` for the error -> fields of ``Lora``."""
_TEST_TOKENS = 8


def attach_lora(model: Any, folder: Path, lora: Lora) -> Any:
    """Attach an adapter to each target layer of ``model``, which is that of ``folder``, with weights or without, and return the PEFT model.

    Raises:
        UserError: the model has no such layers, or one of them cannot have an adapter.
    """
    excluded = find_excluded_layers(folder, lora)
    try:
        with let_peft_gather(model):
            adapted = get_peft_model(model, _build_peft_config(lora, excluded), autocast_adapter_dtype=False)
    except ValueError as error:
        raise UserError(_explain_rejection(_load_config(folder), lora, excluded, str(error).splitlines()[0], _KEY)) from None
    _check_ties(adapted, _KEY)
    return adapted


def check_lora(folder: Path, lora: Lora, key: str = _KEY) -> None:
    """Check that an adapter can be trained, from the model's configuration alone: it is attached to a model without weights, which is run.

    Args:
        key: where the adapter is configured, for the error.

    Raises:
        UserError: the model has no such layers, PEFT rejects them, or the model does not run with an adapter on them.
    """
    config, excluded, rank_1 = _load_config(folder), find_excluded_layers(folder, lora, key), lora.model_copy(update={"rank": 1})
    # Fake tensors hold no data but report a real device: unlike on meta tensors, most models run on them.
    fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
    with fake_mode:
        model = _build_without_weights(config)
    try:
        adapted = get_peft_model(model, _build_peft_config(rank_1, excluded), autocast_adapter_dtype=False)
    except ValueError as error:
        raise UserError(_explain_rejection(config, lora, excluded, str(error).splitlines()[0], key)) from None
    _check_ties(adapted, key)
    if error := _get_run_error(adapted, fake_mode):
        with fake_mode:
            model = _build_without_weights(config)
        if not _get_run_error(model, fake_mode):  # some kernels do not run on fake tensors at all; then only training can tell
            raise UserError(
                f"{key}.targets: {config.model_type} does not run with an adapter on each of "
                f"{', '.join(_list_linear_names(model))} ({error}); name some of them, or set {key}.kind=full"
            )


def find_excluded_layers(folder: Path, lora: Lora, key: str = _KEY) -> list[str]:
    """Find the names of the linear layers that ``all-linear`` excludes, because the model would not use an adapter's output correctly.

    Routers of experts are often linear layers by their class but return several tensors; a state space model passes the weights of its
    output projection directly to a kernel, past any adapter, and PEFT rejects it. The result is the same on every machine.

    Raises:
        UserError: a target is such a layer, or names no layer.
    """
    config = _load_config(folder)
    with torch.device("meta"):
        model = _build_without_weights(config)
        nonlinear = {name for name, layer in _find_linear_layers(model).items() if not _is_linear(layer)}
        if lora.targets != _ALL:
            _check_target_names(model, lora.targets, key)
            if named := {_last_name(name) for name in nonlinear} & {_last_name(target) for target in lora.targets}:
                raise UserError(
                    f"{key}.targets: {', '.join(sorted(named))} of {config.model_type} is no plain linear layer, which no "
                    f"adapter can be added to; name others, or {_ALL}, which excludes it"
                )
            return []
        plain = Lora(rank=1, dropout=0.0)
        if not _get_attach_error(config, plain, nonlinear):
            return sorted(nonlinear)
        names = _list_linear_names(model, nonlinear)
        rejected = {name for name in names if _get_attach_error(config, plain.model_copy(update={"targets": (name,)}), nonlinear)}
        return sorted(nonlinear | {name for name in _find_linear_layers(model) if _last_name(name) in rejected})


def _check_target_names(model: Any, targets: Collection[str], key: str) -> None:
    """Raise a ``UserError`` for a target that no layer matches: PEFT silently ignores it if another target matches."""
    names = [f".{name}" for name, _ in model.named_modules()]
    if unknown := [target for target in targets if not any(name.endswith(f".{target}") for name in names)]:
        raise UserError(
            f"{key}.targets: no layer of {model.config.model_type} is called {', '.join(unknown)}; the model has "
            f"{', '.join(_list_linear_names(model))}"
        )


def _build_peft_config(lora: Lora, excluded: Collection[str]) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]  alpha may be fractional
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        exclude_modules=sorted(excluded) or None,
        use_rslora=lora.variant == "rslora",
        use_dora=lora.variant == "dora",
        task_type="CAUSAL_LM",
    )


def _check_ties(adapted: Any, key: str) -> None:
    """Raise a ``UserError`` for an adapter on one of two tied embedding matrices: merging it would change both."""
    embedding, head = adapted.get_input_embeddings(), adapted.get_output_embeddings()
    layer, other = (embedding, "output head") if isinstance(embedding, LoraLayer) else (head, "input embedding")
    if embedding.weight is head.weight and isinstance(layer, LoraLayer):
        name = next(_last_name(name) for name, each in adapted.named_modules() if each is layer)
        raise UserError(
            f"{key}.targets: `{name}` is tied to the {other} in this model, and an adapter on it would change both; name other layers "
            "(rows of new tokens are trained anyway)"
        )


def _explain_rejection(config: Any, lora: Lora, excluded: Collection[str], error: str, key: str) -> str:
    """Build the error message: PEFT's, and a fix: a setting with which PEFT accepts the adapter, or else the names of the layers."""
    with torch.device("meta"):
        fixes = (fix for fix, fields in _ALTERNATIVES.items() if not _get_attach_error(config, lora.model_copy(update=fields), excluded))
        if fix := next(fixes, None):
            return f"{key}: {config.model_type} takes no such adapter ({error}); set {key}.{fix.format(key=key)}"
        targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
        names = _list_linear_names(_build_without_weights(config))
        return f"{key}.targets: {targets} ({error}); the model has {', '.join(names)}"


def _load_config(folder: Path) -> Any:
    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _build_without_weights(config: Any) -> Any:
    """Build the model without loading weights, in a precision that all kernels support."""
    return AutoModelForCausalLM.from_config(deepcopy(config), dtype=torch.bfloat16, trust_remote_code=False)


def _find_linear_layers(model: Any) -> dict[str, nn.Module]:
    """Find the layers that PEFT regards as linear, without the output head."""
    head = model.get_output_embeddings()
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D) and layer is not head}


def _last_name(name: str) -> str:
    return name.rpartition(".")[2]


def _list_linear_names(model: Any, exclude: Collection[str] = ()) -> list[str]:
    return sorted({_last_name(name) for name in _find_linear_layers(model) if name not in exclude})


def _is_linear(layer: nn.Module) -> bool:
    """Whether ``layer``, which has no weights yet, computes the product of its input and weight plus its bias, and nothing else."""
    if type(layer).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    copy: Any = deepcopy(layer).to_empty(device="cpu").float()
    with torch.device("cpu"), torch.no_grad():
        for weight in copy.parameters():
            weight.normal_()
        inputs = torch.randn(_TEST_TOKENS, copy.in_features)
        try:
            outputs = copy(inputs)
        except _FAILURES:
            return False
        product = linear(inputs, copy.weight, copy.bias)
    return isinstance(outputs, torch.Tensor) and outputs.shape == product.shape and torch.allclose(outputs, product, rtol=1e-3, atol=1e-3)


def _get_attach_error(config: Any, lora: Lora, excluded: Collection[str]) -> str:
    """Return PEFT's error about the adapter, in one line; empty if it accepts it."""
    try:
        get_peft_model(_build_without_weights(config), _build_peft_config(lora, excluded), autocast_adapter_dtype=False)
    except ValueError as error:
        return str(error).splitlines()[0]
    return ""


def _get_run_error(model: Any, fake_mode: FakeTensorMode) -> str:
    """Return the error with which ``model`` fails to run, in one line; empty if it runs."""
    try:
        with fake_mode, torch.no_grad():
            model(input_ids=torch.zeros(1, _TEST_TOKENS, dtype=torch.long), use_cache=False)
    except _FAILURES as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""
