"""The model card that travels with an exported model."""

from importlib import resources

from delia_ray.artifacts import Artifact
from delia_ray.settings import Settings


def model_card(settings: Settings, arm: str, start: Artifact, checkpoint: Artifact) -> str:
    """Markdown: what was tuned, on what, and the fingerprints that lead back to every row."""
    template = resources.files("delia_ray").joinpath("model_card.md").read_text(encoding="utf-8")
    counts = checkpoint.manifest.counts
    return template.format(
        model=settings.model,
        arm=arm,
        task=settings.task.kind,
        token=settings.task.token or "none",
        steps=counts["steps"],
        tokens=counts["tokens"],
        learning_rate=checkpoint.manifest.request["finetune"]["learning_rate"],
        start=start.fingerprint,
        mixed=checkpoint.manifest.inputs["mixed"],
        checkpoint=checkpoint.fingerprint,
    )
