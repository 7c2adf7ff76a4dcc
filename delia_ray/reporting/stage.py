"""The stage ``report``: everything that was measured, as ``report.json`` and as one page."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delia_ray.artifacts import CHAT_FORMAT, DATA, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.evaluation.config import Margins
from delia_ray.lineage import manifests
from delia_ray.reporting.answers import EXAMPLES, side_by_side
from delia_ray.reporting.page import render
from delia_ray.reporting.schema import Report
from delia_ray.reporting.verdict import judged
from delia_ray.settings import Settings

STAGE = "report/4"
REPORT_KIND = "report/2"


class ReportRequest(Config):
    """What the page shows."""

    run: str
    margins: Margins
    examples: int = EXAMPLES


class Comparison(Config):
    """What the scores say about each other, computed by whoever can read them."""

    arms: dict[str, dict[str, dict[str, Any]]]
    paired: dict[str, dict[str, dict[str, Any]]]
    constants: dict[str, float]
    signatures: dict[str, str]


def report(
    settings: Settings,
    scores: Mapping[str, Artifact],
    comparison: Comparison,
    diversity: Artifact | None,
    run: Path,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Write ``index.html`` and ``report.json`` over the scores of all arms, and over the pool of diverse rows if there is one."""

    def write(workspace: Workspace) -> Counts:
        filled = assemble(settings, scores, comparison, diversity, run, provenance)
        (workspace.data / "report.json").write_text(filled.model_dump_json(indent=1), encoding="utf-8")
        (workspace.data / "index.html").write_text(render(filled), encoding="utf-8")
        return {"arms": len(filled.arms)}

    return build_once(
        out,
        stage=STAGE,
        kind=REPORT_KIND,
        request=ReportRequest(run=settings.run.name, margins=settings.score.margins),
        inputs={**scores, **({} if diversity is None else {"diversity": diversity})},
        provenance=provenance,
        write=write,
    )


def assemble(
    settings: Settings,
    scores: Mapping[str, Artifact],
    comparison: Comparison,
    diversity: Artifact | None,
    run: Path,
    provenance: Provenance,
) -> Report:
    """The report of a finished run, verdict included."""
    found = manifests(run)
    trained = [arm for arm in scores if f"arms/{arm}/checkpoint" in found]
    checkpoints = {arm: found[f"arms/{arm}/checkpoint"] for arm in trained}
    first = next(iter(checkpoints.values()))
    filled = Report.model_validate(
        {
            **comparison.model_dump(),
            "run": {
                "name": settings.run.name,
                "model": settings.model,
                "token": settings.task.token,
                "task": settings.task.kind,
                "n_task": int(found["task"].counts["train"]),
                "rho": max(found[f"arms/{arm}/mixed"].counts["effective_ratio"] for arm in trained),
                "steps": int(first.counts["steps"]),
                "learning_rates": {arm: manifest.request["finetune"]["learning_rate"] for arm, manifest in checkpoints.items()},
                "precision": found[f"arms/{trained[0]}/model"].request.get("dtype"),
                "chat_template": _chat_template(run / "start"),
                "created_at": datetime.now(UTC),
                "command": provenance.command,
                "git_commit": provenance.git_commit,
                "config": settings.model_dump(mode="json"),
            },
            "curves": {arm: _curve(run / "arms" / arm / "checkpoint") for arm in trained},
            "diversity": None if diversity is None else json.loads((diversity.data / "diversity.json").read_text(encoding="utf-8")),
            "examples": side_by_side(scores, settings.task.kind, EXAMPLES),
            "stages": {path: {"seconds": manifest.seconds, **manifest.counts} for path, manifest in found.items()},
            "lineage": {path: manifest.model_dump(include={"stage", "fingerprint", "inputs"}) for path, manifest in found.items()},
        }
    )
    return judged(filled)


def _chat_template(start: Path) -> dict[str, str]:
    file = start / DATA / CHAT_FORMAT
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _curve(checkpoint: Path) -> list[dict[str, Any]]:
    wanted = ("step", "task_loss", "diverse_loss", "learning_rate", "grad_norm", "tokens_per_second")
    lines = (checkpoint / DATA / "metrics.jsonl").read_text().splitlines()
    return [{name: json.loads(line)[name] for name in wanted} for line in lines]
