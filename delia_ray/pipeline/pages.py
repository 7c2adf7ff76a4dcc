"""The pages of a run, rendered from what its steps stored: one place, so that a changed template reaches finished runs, too."""

import json
import os
from pathlib import Path

from delia_ray import reporting
from delia_ray.core.artifacts import MANIFEST, Artifact, Manifest
from delia_ray.core.fingerprint import fingerprint, hash_folder
from delia_ray.core.layout import RunLayout
from delia_ray.pipeline.steps import STEPS, Step, load

_RENDERED = ".rendered.json"
"""Beside the pages: role -> hash of the artifact and of the code that rendered it."""


def render_pages(layout: RunLayout) -> dict[str, Path]:
    """Render the page of every finished step that has one and whose page is missing or older than the artifact or the templates.

    Returns:
        Role -> its page.
    """
    finished = [step for step in STEPS if step.page and (layout.artifact(step.role) / MANIFEST).exists()]
    if not finished:
        return {}
    renderer = hash_folder(Path(reporting.__path__[0]))
    keys = {step.role: fingerprint({"artifact": _manifest(layout, step).fingerprint, "renderer": renderer}) for step in finished}
    record = layout.pages / _RENDERED
    rendered: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    for step in finished:
        if rendered.get(step.role) != keys[step.role] or not page_of(layout, step).exists():
            _render(layout, step)
    _write(record, json.dumps(keys, indent=1))
    return {step.role: page_of(layout, step) for step in finished}


def page_of(layout: RunLayout, step: Step) -> Path:
    """Where the page of ``step`` goes."""
    return layout.pages / f"{step.role}.html"


def _render(layout: RunLayout, step: Step) -> None:
    files: dict[str, str] = load(step.page)(Artifact(layout.artifact(step.role), _manifest(layout, step)))
    for name, text in files.items():
        _write(layout.pages / name, text)


def _manifest(layout: RunLayout, step: Step) -> Manifest:
    return Manifest.model_validate_json((layout.artifact(step.role) / MANIFEST).read_text())


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.partial")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, file)
