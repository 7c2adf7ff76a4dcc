"""The card of an exported model says what it was made of, and claims no license for it that is another model's."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from delia_ray.core.artifacts import Artifact, Manifest
from delia_ray.core.config import build_config
from delia_ray.reporting.model_card import render_model_card
from delia_ray.settings import Settings


def artifact(fingerprint: str) -> Artifact:
    manifest = Manifest(
        stage="finetune/1",
        request={"finetune": {"learning_rate": 5e-4}},
        inputs={"mixed": "cccccccccccc"},
        fingerprint=fingerprint,
        kind="checkpoint/1",
        counts={"steps": 56, "tokens": 11873},
        seconds=1.0,
        created_at=datetime.now(UTC),
        git_commit=None,
        command=[],
    )
    return Artifact(Path("nowhere"), manifest)


@pytest.mark.parametrize(("model", "is_builtin"), [("builtin:smollm2-135m-instruct", True), ("owner/name", False), ("./folder", False)])
def test_the_license_of_the_builtin_model_is_claimed_for_it_alone(model: str, is_builtin: bool):
    settings = build_config(Settings, [], ["run.name=r", f"model={model}"])
    card = render_model_card(settings, "delia", artifact("aaaaaaaaaaaa"), artifact("bbbbbbbbbbbb"))
    assert ("Apache-2.0" in card) == ("SmolLM2-135M-Instruct" in card) == is_builtin
    assert all(part in card for part in (f"# {model}, arm `delia`", "56 steps", "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"))
    assert card.endswith("\n") and "\n\n\n" not in card
