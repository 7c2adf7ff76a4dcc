"""Stage ``report``: collects the scores of a finished run into ``report.json``."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delia_ray.core.artifacts import CHAT_FORMAT, DATA, MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.layout import RunLayout
from delia_ray.core.lineage import read_manifests
from delia_ray.core.storage.transfer import fetch
from delia_ray.evaluation.config import Margins
from delia_ray.models.exported import read_parity
from delia_ray.reporting.examples import MAX_EXAMPLES, select_examples
from delia_ray.reporting.schema import RunReport
from delia_ray.reporting.wording.conclusions import add_conclusions
from delia_ray.settings import Settings

STAGE = "report/6"
REPORT_KIND = "report/3"


class ReportRequest(Config):
    """Request of the ``report`` artifact, which is hashed into its fingerprint."""

    run: str
    margins: Margins
    examples: int = MAX_EXAMPLES


class Comparison(Config):
    """Estimates of all arms and differences of all pairs, as ``evaluation.comparison`` computes them."""

    arms: dict[str, dict[str, dict[str, Any]]]
    paired: dict[str, dict[str, dict[str, Any]]]
    constants: dict[str, float]
    signatures: dict[str, str]


def build_report(
    settings: Settings,
    scores: Mapping[str, Artifact],
    comparison: Comparison,
    diversity: Artifact | None,
    layout: RunLayout,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Write ``report.json`` for the scores of all arms, and for the pool of diverse rows if there is one."""

    def write(workspace: Workspace) -> Counts:
        report = assemble_report(settings, scores, comparison, diversity, layout, provenance)
        (workspace.data / "report.json").write_text(report.model_dump_json(indent=1), encoding="utf-8")
        return {"arms": len(report.arms)}

    return build_once(
        out,
        stage=STAGE,
        kind=REPORT_KIND,
        request=ReportRequest(run=settings.run.name, margins=settings.score.margins),
        inputs={**scores, **({} if diversity is None else {"diversity": diversity})},
        provenance=provenance,
        write=write,
    )


def assemble_report(
    settings: Settings,
    scores: Mapping[str, Artifact],
    comparison: Comparison,
    diversity: Artifact | None,
    layout: RunLayout,
    provenance: Provenance,
) -> RunReport:
    """Assemble the report of a finished run, with its conclusions."""
    run_manifests = read_manifests(layout.root)
    checkpoints = {arm: run_manifests[path] for arm in scores if (path := f"arms/{arm}/checkpoint") in run_manifests}
    trained = [*checkpoints]
    report = RunReport.model_validate(
        {
            **comparison.model_dump(),
            "run": {
                "name": settings.run.name,
                "model": settings.model,
                "token": settings.task.token,
                "task": settings.task.kind,
                "n_task": int(run_manifests["task"].counts["train"]),
                "rho": max(run_manifests[f"arms/{arm}/mixed"].counts["effective_ratio"] for arm in trained),
                "steps": int(checkpoints[trained[0]].counts["steps"]),
                "learning_rates": {arm: manifest.request["finetune"]["learning_rate"] for arm, manifest in checkpoints.items()},
                "precision": run_manifests[f"arms/{trained[0]}/model"].request.get("dtype"),
                "chat_template": _read_chat_template(layout.base),
                "created_at": datetime.now(UTC),
                "command": provenance.command,
                "git_commit": provenance.git_commit,
                "config": settings.model_dump(mode="json"),
            },
            "curves": {arm: _read_curve(layout.of_arm(arm, "checkpoint")) for arm in trained},
            "diversity": None if diversity is None else json.loads((diversity.fetch("diversity.json")).read_text(encoding="utf-8")),
            "examples": select_examples(scores, settings.task.kind, MAX_EXAMPLES),
            "stages": {path: {"seconds": manifest.seconds, **manifest.counts} for path, manifest in run_manifests.items()},
            "parity": {arm: read_parity(Artifact.open(layout.of_arm(arm, "model"), MODEL_KIND)) for arm in trained},
            "lineage": {path: each.model_dump(include={"stage", "fingerprint", "inputs"}) for path, each in run_manifests.items()},
        }
    )
    return add_conclusions(report)


def _read_chat_template(base: Path) -> dict[str, str]:
    """Read the features of the chat template; empty where the artifact has none."""
    file = fetch(base / DATA / CHAT_FORMAT)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _read_curve(checkpoint: Path) -> list[dict[str, Any]]:
    """Read the columns of ``CurvePoint`` from the metrics log of a checkpoint."""
    columns = ("step", "task_loss", "diverse_loss", "learning_rate", "grad_norm", "tokens_per_second")
    lines = fetch(checkpoint / DATA / "metrics.jsonl").read_text().splitlines()
    return [{name: json.loads(line)[name] for name in columns} for line in lines]
