"""The README's account of the demo: its figures, table and drawing, from what a run wrote.

    python docs/demo.py runs/demo minutes=11 memory_gb=11     # a finished `make demo` into docs/demo.json, and then as below
    python docs/demo.py                                       # README.md and docs/demo.png from docs/demo.json

`make demo-docs` does the first for `runs/demo`. What no artifact holds, the wall time and the memory of the whole, is given by hand.
"""

import hashlib
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from delia_ray.cli.terminal import stage_text
from delia_ray.core.lineage import read_manifests
from delia_ray.reporting.schema import RunReport
from delia_ray.reporting.wording.formatting import format_number, format_percent
from delia_ray.reporting.wording.glossary import get_arm_title, get_metric
from delia_ray.reporting.wording.headline import label_probes, write_token_headline
from delia_ray.synthesis.usage import summarize_counts

HERE = Path(__file__).parent
RECORD, DRAWING, README = HERE / "demo.json", HERE / "demo.png", HERE.parent / "README.md"
BEGIN, END = "<!-- demo: written by docs/demo.py -->", "<!-- /demo -->"
_COLUMNS = 138
_SENTENCE = (
    "On two cores the demo takes {minutes:g} minutes and stays below {memory_gb:g} GB. It tunes SmolLM2-135M on {items} items and "
    "{exchanges} of the {answers} answers of its own that were kept, tests it on {tested} unseen facts under wordings it has never seen, "
    "and ends like this (each value with its 95 % interval on the page):"
)
_UNITS = {"queries": ("queries", "queries"), "diverse": ("answers", "answers")}
_COLORS = {"sft": "#c05200", "delia": "#0072b2"}
_GRAY = "#888888"
_WIDE = 11.11
"""Inches of the drawing, at 100 dots each."""


def record(run: Path, measured: dict[str, float]) -> dict[str, Any]:
    """What the README says of a finished run, without anything else of it."""
    report = RunReport.model_validate_json((run / "report/data/report.json").read_text(encoding="utf-8"))
    arms = {
        arm: {metric: {"value": each.value, "low": each.low, "high": each.high} for metric, each in report.arms[arm].items()}
        for arm in report.list_arms()
    }
    return {
        "run": report.run.name,
        "created_at": report.run.created_at.isoformat(),
        "git_commit": report.run.git_commit,
        "items": report.run.n_task,
        "exchanges": int(report.run.n_task * report.run.rho),
        "answers": int(read_manifests(run)["diverse"].counts["rows"]),
        "tested": report.arms["delia"]["format_acc"].n,
        **measured,
        "lines": [stage_text(*line).plain for line in _stages(run)],
        "finding": write_token_headline(report),
        "probes": label_probes(report),
        "metrics": report.list_metrics(),
        "arms": arms,
    }


def _stages(run: Path) -> Iterator[tuple[str, float, str]]:
    """Name, seconds and numbers of the stages that take the time, as on the terminal; the speed of a training is its median step's."""
    for path, manifest in read_manifests(run).items():
        if path in _UNITS:
            name, unit = _UNITS[path]
            yield name, manifest.seconds, summarize_counts(manifest.counts, unit)
        elif path.endswith("/checkpoint"):
            steps, rate = manifest.counts["steps"], manifest.counts["tokens_per_second"]
            yield f"finetune {Path(path).parts[1]}", manifest.seconds, f"{steps:g}/{steps:g} steps, {rate:.0f} tokens/s"


def block(found: dict[str, Any]) -> str:
    """The part of the README between the two marks."""
    return "\n".join(
        [
            BEGIN,
            *textwrap.wrap(_SENTENCE.format(**found), _COLUMNS),
            "",
            "```",
            *found["lines"],
            "...",
            *_table(found),
            f"report: runs/{found['run']}/pages/report.html",
            "```",
            "",
            f"![{found['finding']}](docs/{DRAWING.name})",
            END,
        ]
    )


def _table(found: dict[str, Any]) -> list[str]:
    rows = [["metric", *found["arms"]]]
    for metric in found["metrics"]:
        cells = [found["arms"][arm].get(metric, {}).get("value") for arm in found["arms"]]
        rows.append([get_metric(metric).title, *("-" if value is None else format_number(value) for value in cells)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def draw(found: dict[str, Any], out: Path) -> None:
    """For each arm, how often the format comes when the token asks, when plain words ask, and when nobody does."""
    from matplotlib.figure import Figure  # noqa: PLC0415  the rest needs no matplotlib

    figure = Figure(figsize=(_WIDE, 2.9), dpi=100)
    figure.suptitle(found["finding"], x=0.01, ha="left", fontsize=13, fontweight="bold", wrap=True)
    for place, (arm, axes) in enumerate(zip(found["arms"], figure.subplots(1, len(found["arms"])), strict=True)):
        _draw_arm(axes, get_arm_title(arm), _COLORS.get(arm, _GRAY), found["arms"][arm], found["probes"], first=place == 0)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    figure.savefig(out, metadata={"Description": fingerprint(found), "Software": None})


def _draw_arm(axes: Any, title: str, color: str, values: dict[str, Any], probes: dict[str, str], *, first: bool) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    for place, (probe, label) in enumerate(probes.items()):
        estimate = values.get(probe, {})
        axes.barh(place, 1, height=0.4, color="#eeeeee")
        axes.text(0, place - 0.32, label, fontsize=9)
        axes.text(1, place - 0.32, format_percent(estimate.get("value")), fontsize=9, fontweight="bold", ha="right")
        if estimate.get("value") is not None:
            axes.barh(place, estimate["value"], height=0.4, color=color)
        if estimate.get("low") is not None:
            axes.plot([estimate["low"], estimate["high"]], [place, place], "|-", color="black", linewidth=1.2, markersize=7, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(len(probes) - 0.6, -0.7), yticks=[])
    axes.set_xticks([0, 0.5, 1], [format_percent(tick) for tick in (0, 0.5, 1)], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def fingerprint(found: dict[str, Any]) -> str:
    """Names the record that a drawing was made from."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def replace_block(text: str, found: dict[str, Any]) -> str:
    """``text`` of the README with the part between the marks made anew."""
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block(found), text, flags=re.DOTALL)


def main(argv: Sequence[str]) -> None:
    if argv:
        run, *measured = argv
        numbers = {name: float(value) for name, _, value in (word.partition("=") for word in measured)}
        before = json.loads(RECORD.read_text(encoding="utf-8"))
        kept = {name: before[name] for name in ("minutes", "memory_gb")}
        RECORD.write_text(json.dumps(record(Path(run), {**kept, **numbers}), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    README.write_text(replace_block(README.read_text(encoding="utf-8"), found), encoding="utf-8")
    draw(found, DRAWING)


if __name__ == "__main__":
    main(sys.argv[1:])
