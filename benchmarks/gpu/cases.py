"""Trainings to measure, and the order in which a GPU's minutes are spent on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

_LARGE = ("llama-3-8b", "gemma-7b", "mistral-7b", "qwen2.5-7b")
_SMALL = "llama-3.2-1b"
"""Every weight of it can be trained on one GPU, too."""
Parameters = Literal["lora", "full"]
Stage = Literal[0, 1, 2, 3]
_DEFAULT_STAGE: tuple[Stage, ...] = (1,)
_OTHER_STAGES: tuple[Stage, ...] = (0, 2, 3)


@dataclass(frozen=True)
class Training:
    """One training of a shape."""

    shape: str
    parameters: Parameters
    zero_stage: Stage = 1
    gradient_checkpointing: bool = False
    loss: Literal["torch", "chunked"] = "torch"
    layers: Literal["torch", "compiled"] = "torch"

    @property
    def name(self) -> str:
        options = {"checkpointing": self.gradient_checkpointing, "chunked": self.loss == "chunked", "compiled": self.layers == "compiled"}
        return "/".join([self.shape, self.parameters, f"zero{self.zero_stage}", *(name for name, chosen in options.items() if chosen)])


@dataclass(frozen=True)
class Group:
    """Cases that one process measures one after the other, as far as it lasts."""

    module: str
    """Of ``benchmarks.gpu``; takes ``--device DEVICE CASE...``."""
    cases: tuple[str, ...]
    limit_s: float
    """Seconds that they may take together."""


def _vary(shape: str, parameters: Parameters, stages: Sequence[Stage]) -> list[Training]:
    return [Training(shape, parameters, stage, again) for stage, again in product(stages, (False, True))]


def plan_trainings() -> list[list[Training]]:
    """The trainings of each group, in order of worth: every shape as trained by default, the paths that save memory or time, the rest."""
    by_default = [_vary(shape, "lora", _DEFAULT_STAGE) for shape in _LARGE[:2]]
    full = [_vary(_SMALL, "full", _DEFAULT_STAGE), _vary(_LARGE[0], "full", _DEFAULT_STAGE)]
    others = [_vary(shape, "lora", _DEFAULT_STAGE) for shape in _LARGE[2:]]
    paths = [[Training(_LARGE[1], "lora", loss="chunked")], [Training(_LARGE[0], "lora", layers="compiled")]]
    stages = [_vary(_LARGE[0], "lora", _OTHER_STAGES), _vary(_SMALL, "full", _OTHER_STAGES)]
    rest = [_vary(shape, "lora", _OTHER_STAGES) for shape in _LARGE[1:]] + [_vary(_LARGE[0], "full", _OTHER_STAGES)]
    rest += [_vary(shape, "full", (*_DEFAULT_STAGE, *_OTHER_STAGES)) for shape in _LARGE[1:]]
    return [*by_default, *full, *others, *paths, *stages, *rest]


TRAININGS = {training.name: training for group in plan_trainings() for training in group}
