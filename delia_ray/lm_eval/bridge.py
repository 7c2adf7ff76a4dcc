"""lm-eval in a subprocess, with an OpenAI-compatible endpoint as its model. The only module that knows its command line and files."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from delia_ray.core.errors import UserError
from delia_ray.lm_eval.config import LmEval
from delia_ray.lm_eval.schema import LmEvalResults, TaskMetric
from delia_ray.placement import LmEvalProcess

_NO_FILTER = "none"
_IS_INSTALLED = "from importlib.util import find_spec; raise SystemExit(not (find_spec('lm_eval') and find_spec('tenacity')))"
_TRUNCATION_WARNING = re.compile(r"[Ll]eft[ -]truncat")


def check_tasks(config: LmEval, process: LmEvalProcess) -> None:
    """Check that lm-eval is installed and knows the tasks, without any model.

    Raises:
        UserError: it is not installed, or does not know a task.
    """
    interpreter = str(process.python or sys.executable)
    try:
        completed = subprocess.run([interpreter, "-c", _IS_INSTALLED], check=False)
    except OSError as error:
        raise UserError(f"placement.lm_eval.python: {interpreter}: {error.strerror}; name a Python interpreter") from None
    if completed.returncode != 0:
        raise UserError(
            f"placement.lm_eval.python: {interpreter} cannot import lm_eval; `pip install 'lm-eval[api]'` there, or name an interpreter "
            "that has it"
        )
    include = [] if config.include is None else ["--include_path", str(config.include.resolve())]
    _run_lm_eval(process, "validate", "--tasks", ",".join(config.tasks), *include)


def evaluate_endpoint(config: LmEval, name: str, tokenizer: Path, url: str, process: LmEvalProcess, folder: Path) -> LmEvalResults:
    """Run the tasks of ``config`` on the model that the endpoint serves as ``name``.

    Args:
        config: the tasks and their settings.
        name: the model's name at the endpoint.
        tokenizer: folder of the model's tokenizer.
        url: URL of the endpoint, ``/v1`` included.
        process: interpreter, concurrency and timeout of lm-eval.
        folder: folder for lm-eval's own files.

    Raises:
        UserError: lm-eval fails; its output is in this process's.
    """
    config_file = _write_run_config(config, name, tokenizer, url, process, folder)
    output = _run_lm_eval(process, "run", "--config", str(config_file))
    file = next(folder.rglob("results_*.json"))
    results: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    samples = {
        task: list(_read_samples(file.with_name(f"samples_{task}_{file.stem.removeprefix('results_')}.jsonl")))
        for task in results["results"]
    }
    metrics = _extract_metrics(results["results"], samples)
    return LmEvalResults(lm_eval=results["lm_eval_version"], metrics=metrics, truncated_prompts=len(_TRUNCATION_WARNING.findall(output)))


def _run_lm_eval(process: LmEvalProcess, *arguments: str) -> str:
    """Run lm-eval and return its output, which is also printed to this process's output."""
    command = [str(process.python or sys.executable), "-m", "lm_eval", *arguments]
    completed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    print(completed.stdout, flush=True)
    if completed.returncode:
        lines = [line.strip() for line in completed.stdout.splitlines() if line.strip()] or [f"exit code {completed.returncode}"]
        raise UserError(f"lm_eval.tasks: lm-eval stopped with {lines[-1]!r}; the log of this run has the rest")
    return completed.stdout


def _write_run_config(config: LmEval, name: str, tokenizer: Path, url: str, process: LmEvalProcess, folder: Path) -> Path:
    """Write the file for lm-eval's ``--config`` and return its path."""
    run_config: dict[str, Any] = {
        "model": "local-completions",
        "model_args": {
            "model": name,
            "base_url": f"{url}/completions",
            "tokenizer": str(tokenizer),
            "tokenizer_backend": "huggingface",
            "num_concurrent": process.concurrent_requests,
            "max_length": config.max_length,
            "timeout": process.timeout_s,
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
    file = folder / "lm_eval.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in run_config.items() if value is not None}), encoding="utf-8")
    return file


def _extract_metrics(results: Mapping[str, Any], samples: Mapping[str, list[Mapping[str, Any]]]) -> list[TaskMetric]:
    """Extract every metric that lm-eval aggregates, with the score of each item if it has one."""
    return [
        TaskMetric(
            task=task,
            metric=metric,
            filter=None if filter_name == _NO_FILTER else filter_name,
            value=value,
            stderr=_parse_number(fields.get(f"{metric}_stderr,{filter_name}")),
            items=_extract_item_scores(samples[task], metric, filter_name),
        )
        for task, fields in results.items()
        for key, value in fields.items()
        if "," in key and _parse_number(value) is not None
        for metric, _, filter_name in [key.partition(",")]
        if not metric.endswith("_stderr")
    ]


def _read_samples(file: Path) -> Iterator[Mapping[str, Any]]:
    """Read lm-eval's log of samples, one for each item; nothing for a group of tasks, which has no file."""
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def _extract_item_scores(samples: list[Mapping[str, Any]], metric: str, filter_name: str) -> dict[str, float] | None:
    """Extract item -> score; None for a metric without item scores, such as a perplexity."""
    values = {
        str(sample["doc_id"]): _parse_number(sample.get(metric)) for sample in samples if sample.get("filter", _NO_FILTER) == filter_name
    }
    scores = {item: value for item, value in values.items() if value is not None}
    return scores if scores and len(scores) == len(values) else None


def _parse_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
