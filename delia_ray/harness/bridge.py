"""lm-eval as a process of its own, which asks an endpoint. The only module that knows its command line and files."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from delia_ray.errors import UserError
from delia_ray.harness.config import LmEval
from delia_ray.harness.schema import Found, TaskMetric
from delia_ray.placement import Harness

_PLAIN_FILTER = "none"
_IS_INSTALLED = "from importlib.util import find_spec; raise SystemExit(not (find_spec('lm_eval') and find_spec('tenacity')))"
_CUT = re.compile(r"[Ll]eft[ -]truncat")


def check_tasks(config: LmEval, how: Harness) -> None:
    """Have lm-eval look the tasks up, without any model.

    Raises:
        UserError: it is not installed, or does not know a task.
    """
    interpreter = str(how.python or sys.executable)
    try:
        present = subprocess.run([interpreter, "-c", _IS_INSTALLED], check=False)
    except OSError as error:
        raise UserError(f"placement.lm_eval.python: {interpreter}: {error.strerror}; name a Python interpreter") from None
    if present.returncode != 0:
        raise UserError(
            f"placement.lm_eval.python: {interpreter} cannot import lm_eval; `pip install 'lm-eval[api]'` there, or name an interpreter "
            "that has it"
        )
    include = [] if config.include is None else ["--include_path", str(config.include.resolve())]
    _run(how, "validate", "--tasks", ",".join(config.tasks), *include)


def ask_endpoint(config: LmEval, name: str, tokenizer: Path, url: str, how: Harness, folder: Path) -> Found:
    """What lm-eval finds for the model that the endpoint calls ``name``.

    Args:
        tokenizer: folder of the model's tokenizer.
        url: the endpoint, ``/v1`` included.
        folder: where lm-eval's own files go.

    Raises:
        UserError: lm-eval gives up; its output is in this process's.
    """
    order = _write_order(config, name, tokenizer, url, how, folder)
    said = _run(how, "run", "--config", str(order))
    file = next(folder.rglob("results_*.json"))
    results: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    items = {
        task: list(_items(file.with_name(f"samples_{task}_{file.stem.removeprefix('results_')}.jsonl"))) for task in results["results"]
    }
    return Found(lm_eval=results["lm_eval_version"], metrics=_metrics(results["results"], items), cut=len(_CUT.findall(said)))


def _run(how: Harness, *words: str) -> str:
    """What lm-eval prints; it goes to this process's output, too."""
    command = [str(how.python or sys.executable), "-m", "lm_eval", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    print(done.stdout, flush=True)
    if done.returncode:
        said = [line.strip() for line in done.stdout.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise UserError(f"lm_eval.tasks: lm-eval stopped with {said[-1]!r}; the log of this run has the rest")
    return done.stdout


def _write_order(config: LmEval, name: str, tokenizer: Path, url: str, how: Harness, folder: Path) -> Path:
    order: dict[str, Any] = {
        "model": "local-completions",
        "model_args": {
            "model": name,
            "base_url": f"{url}/completions",
            "tokenizer": str(tokenizer),
            "tokenizer_backend": "huggingface",
            "num_concurrent": how.concurrent_requests,
            "max_length": config.max_length,
            "timeout": how.timeout_s,
        },
        "tasks": list(config.tasks),
        "batch_size": 1,
        "limit": config.limit,
        "num_fewshot": config.num_fewshot,
        "apply_chat_template": config.chat,
        "include_path": None if config.include is None else str(config.include.resolve()),
        "seed": config.seed,
        "log_samples": True,
        "output_path": str(folder),
    }
    file = folder / "order.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in order.items() if value is not None}), encoding="utf-8")
    return file


def _metrics(results: Mapping[str, Any], items: Mapping[str, list[Mapping[str, Any]]]) -> list[TaskMetric]:
    """Every metric that lm-eval aggregates, with the score of each item where it has one."""
    return [
        TaskMetric(
            task=task,
            metric=metric,
            filter=None if kind == _PLAIN_FILTER else kind,
            value=value,
            stderr=_number(fields.get(f"{metric}_stderr,{kind}")),
            items=_scores(items[task], metric, kind),
        )
        for task, fields in results.items()
        for key, value in fields.items()
        if "," in key and _number(value) is not None
        for metric, _, kind in [key.partition(",")]
        if not metric.endswith("_stderr")
    ]


def _items(file: Path) -> Iterator[Mapping[str, Any]]:
    """What was asked and found, item by item; nothing for a group of tasks, which has no file."""
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _scores(items: list[Mapping[str, Any]], metric: str, kind: str) -> dict[str, float] | None:
    """Item -> score; null for a metric that has none, such as a perplexity."""
    scores = {str(item["doc_id"]): _number(item.get(metric)) for item in items if item.get("filter", _PLAIN_FILTER) == kind}
    found = {item: score for item, score in scores.items() if score is not None}
    return found if found and len(found) == len(scores) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
