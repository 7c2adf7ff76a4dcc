"""Model card (README) of an exported model."""

from importlib import resources

from delia_ray.core.artifacts import Artifact
from delia_ray.settings import Settings

_BUILTIN_LICENSE = "\nThe built-in base model is SmolLM2-135M-Instruct by Hugging Face (Apache-2.0); see NOTICE.\n"


def render_model_card(settings: Settings, arm: str, base: Artifact, checkpoint: Artifact) -> str:
    """Render the card as Markdown: base model, task, training settings, and the fingerprints of the artifacts behind the model."""
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
        base=base.fingerprint,
        mixed=checkpoint.manifest.inputs["mixed"],
        checkpoint=checkpoint.fingerprint,
        license=_BUILTIN_LICENSE if settings.model.startswith("builtin:") else "",
    )
