"""Queries in another number under the same run: the old ones make way as long as nothing was trained or scored on them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from delia_ray.artifacts import MANIFEST, Artifact, Input, Manifest, StaleArtifactError, retire
from delia_ray.config import Config
from delia_ray.fingerprint import differences
from delia_ray.lineage import broken, made_from
from delia_ray.records import QUERY_KIND

_POOL = ("queries", "diverse", "clean", "diversity")
"""Stages that may go: they are drawn from the store of draws again, or counted anew."""


def make_way(out: Path, run: Path, stage: str, request: Config, inputs: Mapping[str, Input]) -> None:
    """Take the queries at ``out`` and what was made from them away, if ``request`` wants the same ones in another number.

    What goes last is what the rest was made from, so that a killed attempt leaves whole artifacts. Draws are kept by what they
    were drawn from, so rows that come back are not drawn again.

    Args:
        run: the folder of all that may have been made from them.

    Raises:
        StaleArtifactError: a mixture, a model or a report was made from them.
    """
    found = Artifact.open(out, QUERY_KIND) if (out / MANIFEST).exists() else None
    if found is None or not _differs_in_number(found.manifest, stage, request, inputs):
        return
    made = made_from(run, found.fingerprint)
    kept = [path for path, manifest in made.items() if manifest.stage.partition("/")[0] not in _POOL]
    if kept := kept or broken(run):
        changes = "; ".join(differences(found.manifest.request, request.model_dump(mode="json"), "request."))
        raise StaleArtifactError(
            f"{out} was built from another request{changes and f': {changes}'}, and {kept[0]} was made from it, or may have been. "
            f"Give the run another name (run.name=...); with placement.draws={run / '.draws'} it draws only what is new"
        )
    for path in reversed(made):
        retire(run / path)
    retire(out)


def _differs_in_number(found: Manifest, stage: str, request: Config, inputs: Mapping[str, Input]) -> bool:
    """Whether only the number of rows is another, or the rows of the user's own files."""
    wanted, given = request.model_dump(mode="json"), {role: each.fingerprint for role, each in inputs.items()}
    if (found.stage, found.inputs.keys(), found.inputs.get("model")) != (stage, given.keys(), given.get("model")):
        return False
    same = (found.request, found.inputs) == (wanted, given)
    return not same and _without_rows(found.request) == _without_rows(wanted)


def _without_rows(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_rows(each) for name, each in cast(Mapping[str, Any], value).items() if name != "rows"}
    return [_without_rows(each) for each in cast(list[Any], value)] if isinstance(value, list) else value
