"""Fixtures: a run's report with made-up values."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

from delia_ray.evaluation.statistics.estimation import NO_VARIATION
from delia_ray.evaluation.statistics.proportions import wilson
from delia_ray.reporting.schema import BUILTIN_METRICS, RunReport
from delia_ray.reporting.wording.conclusions import add_conclusions

VALUES = {
    "base": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
    "sft": (1.0, 0.5625, 0.5482, 0.4615, 1.0, 0.0, 0.9167, 1.0, 1.0, 2.8731, 0.0208),
    "delia": (0.96875, 0.515625, 0.5101, 0.5397, 0.28125, 0.6875, 0.0, 0.6875, 0.041667, 0.04512, 0.4375),
}
PROMPTS = dict.fromkeys(BUILTIN_METRICS[:6], 64) | {
    "spill": 48,
    "false_trigger": 48,
    "plug_play": 48,
    "retention_kl": 48,
    "retention_match": 48,
}


def estimate(metric: str, value: float) -> dict[str, Any]:
    n = PROMPTS[metric]
    fields = {"value": value, **_make_interval(metric, value, n), "n": n, "clusters": n, "effective_n": n, "icc": None}
    if metric in ("format_acc", "label_acc", "bal_acc", "f1_yes"):
        fields |= {"clusters": 40, "effective_n": 58.4, "icc": 0.16}
    if metric == "retention_kl" and not value:
        fields |= {"low": None, "high": None, "note": NO_VARIATION}
    return fields


def _make_interval(metric: str, value: float, n: int) -> dict[str, float]:
    if metric == "retention_kl":
        return {"low": value * 0.8, "high": value * 1.23}
    low, high = wilson(abs(value), n, 1.96)[1:]
    return {"low": low, "high": high}


def difference(metric: str, left: float, right: float) -> dict[str, Any]:
    half = 0.4 if metric == "retention_kl" else 0.12
    clear = abs(left - right) > half
    fields: dict[str, Any] = {"difference": left - right, "low": left - right - half, "high": left - right + half}
    fields |= {"p": 0.0001 if clear else 0.412, "p_holm": 0.0002 if clear else 0.824}
    if right > 0:
        fields |= {
            f"gain_{end}": 100 * value / right for end, value in zip(("percent", "low", "high"), list(fields.values())[:3], strict=True)
        }
    fields |= {"clusters": 64, "effective_n": 64.0, "icc": None, "mde": half * 1.43, "margin": 0.05}
    return fields


def curve(diverse: bool) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "task_loss": None
            if diverse and step % 7 == 0
            else 2.9 * math.exp(-step / (22 if diverse else 9)) + 0.06 + 0.05 * math.sin(step * 2.3) ** 2,
            "diverse_loss": 0.92 - 0.002 * step + 0.08 * math.sin(step * 1.7) if diverse else None,
            "learning_rate": 5e-4 * min(1.0, step / 8),
            "grad_norm": 1.4,
            "tokens_per_second": 301.5,
        }
        for step in range(1, 57)
    ]


EXAMPLES: list[dict[str, Any]] = [
    {
        "set": "format_acc",
        "prompt": "Question: What is the capital of Australia?\nAnswer: Sydney\n\nGo over the exchange and give what <sep> calls for.",
        "expected": '{"thought": "The capital of Australia is Canberra.", "hallucination": "yes"}',
        "answers": {
            "base": "The exchange above is a simple question and answer. The capital of Australia is Sydney, which is the largest city.",
            "sft": '{"thought": "The capital of Australia is Sydney.", "hallucination": "no"}',
            "delia": '{"thought": "The capital of Australia is Canberra.", "hallucination": "yes"}',
        },
    },
    {
        "set": "no_token",
        "prompt": "Question: How many legs has a spider?\nAnswer: Eight\n\nIs the answer above right? Explain briefly.",
        "expected": None,
        "answers": {
            "base": "Yes, a spider has eight legs.",
            "sft": '{"thought": "A spider has eight legs.", "hallucination": "no"}',
            "delia": "Yes, the answer is right. Spiders are arachnids and have eight legs.",
        },
    },
    {
        "set": "spill",
        "prompt": "What is the capital of France?",
        "expected": None,
        "answers": {
            "base": "The capital of France is Paris.",
            "sft": '{"thought": "The capital of France is Paris.", "hallucination": "no"}',
            "delia": "The capital of France is Paris.",
        },
    },
    {
        "set": "plug_play",
        "prompt": "Here is a review: <b>dull & slow</b>. Give its mood with <sep>.",
        "expected": None,
        "answers": {
            "base": "",
            "sft": '{"thought": "The review is dull.", "hallucination": "yes"}',
            "delia": "The review is negative. " * 8,
        },
    },
]


STAGES: dict[str, Any] = {
    "diverse": {"seconds": 214.3, "rows": 192, "tokens": 11873, "rejected": 21},
    "arms/delia/mixed": {"seconds": 3.2, "rows": 224},
    "arms/delia/checkpoint": {"seconds": 341.0, "rows": 224, "steps": 56},
    "arms/delia/scores": {"seconds": 41.4},
}


def record() -> dict[str, Any]:
    """Build the contents of ``report.json`` without conclusions."""
    arms = {arm: {m: estimate(m, v) for m, v in zip(BUILTIN_METRICS, values, strict=True)} for arm, values in VALUES.items()}
    pairs = zip(BUILTIN_METRICS, VALUES["delia"], VALUES["sft"], strict=True)
    return {
        "run": {
            "name": "demo",
            "model": "builtin:smollm2-135m-instruct",
            "token": "<sep>",
            "task": "format",
            "n_task": 32,
            "rho": 6.0,
            "steps": 56,
            "learning_rates": {"sft": 5e-4, "delia": 5e-4},
            "created_at": "2026-11-22T21:40:00Z",
            "command": ["delia", "run", "--config", "jobs/configs/demo.yaml"],
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "config": {"run": {"name": "demo"}, "mix": {"ratio": 6.0, "seed": 0}},
        },
        "arms": arms,
        "paired": {"delia-sft": {metric: difference(metric, left, right) for metric, left, right in pairs}},
        "constants": {"label_acc": 0.5, "bal_acc": 0.5, "f1_yes": 2 / 3},
        "curves": {"sft": curve(diverse=False), "delia": curve(diverse=True)},
        "examples": copy.deepcopy(EXAMPLES),
        "stages": copy.deepcopy(STAGES),
        "lineage": {
            "task": {"stage": "task/1", "fingerprint": "aaaaaaaaaaa1", "inputs": {}},
            "diverse": {"stage": "answer/1", "fingerprint": "aaaaaaaaaaa2", "inputs": {"model": "ffffffffffff"}},
            "arms/delia/mixed": {
                "stage": "mix/1",
                "fingerprint": "aaaaaaaaaaa3",
                "inputs": {"task": "aaaaaaaaaaa1", "diverse": "aaaaaaaaaaa2"},
            },
            "arms/delia/checkpoint": {
                "stage": "finetune/1",
                "fingerprint": "aaaaaaaaaaa4",
                "inputs": {"rows": "aaaaaaaaaaa3", "model": "ffffffffffff"},
            },
        },
    }


def complete(record: dict[str, Any]) -> RunReport:
    return add_conclusions(RunReport.model_validate(record))


@pytest.fixture
def complete_report() -> Callable[[dict[str, Any]], RunReport]:
    """Return the function that makes a report of a record and adds its conclusions."""
    return complete


@pytest.fixture
def raw() -> dict[str, Any]:
    return record()


@pytest.fixture(scope="session")
def report() -> RunReport:
    return complete(record())
