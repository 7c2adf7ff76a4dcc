"""Changing the number of queries under the same run: the old ones are retired if no mixture, model or score was made from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from delia_ray.core.artifacts import MANIFEST, Artifact, Input, Manifest, StaleArtifactError, retire_artifact
from delia_ray.core.config import Config
from delia_ray.core.fingerprint import iter_differences
from delia_ray.core.lineage import find_descendants, find_orphans
from delia_ray.core.records import QUERY_KIND

_REBUILDABLE_STAGES = ("queries", "diverse", "clean", "diversity")
"""Stages whose artifacts may be retired: they are rebuilt from cached completions, or computed again."""


def retire_resized_queries(out: Path, run: Path, stage: str, request: Config, inputs: Mapping[str, Input]) -> None:
    """Retire the queries at ``out`` and what was made from them, if ``request`` differs from theirs only in the number of rows.

    The queries are retired last, so that a killed attempt leaves complete artifacts. Completions are cached by their request, so rows
    that recur are not generated again.

    Args:
        run: the folder of everything that may have been made from them.

    Raises:
        StaleArtifactError: a mixture, a model or a report was made from them.
    """
    queries = Artifact.open(out, QUERY_KIND) if (out / MANIFEST).exists() else None
    if queries is None or not _is_resized(queries.manifest, stage, request, inputs):
        return
    descendants = find_descendants(run, queries.fingerprint)
    blocking = [path for path, manifest in descendants.items() if manifest.stage.partition("/")[0] not in _REBUILDABLE_STAGES]
    if blocking := blocking or find_orphans(run):
        changes = "; ".join(iter_differences(queries.manifest.request, request.model_dump(mode="json"), "request."))
        raise StaleArtifactError(
            out,
            f"{out} was built from another request{changes and f': {changes}'}, and {blocking[0]} was made from it, or may have been. "
            f"Give the run another name (run.name=...); with placement.cache={run / '.cache'} it generates only what is new",
        )
    for path in reversed(descendants):
        retire_artifact(run / path)
    retire_artifact(out)


def _is_resized(manifest: Manifest, stage: str, request: Config, inputs: Mapping[str, Input]) -> bool:
    """Whether the only difference is the number of rows, or the rows of the user's own files."""
    values, fingerprints = request.model_dump(mode="json"), {role: each.fingerprint for role, each in inputs.items()}
    if (manifest.stage, manifest.inputs.keys(), manifest.inputs.get("model")) != (stage, fingerprints.keys(), fingerprints.get("model")):
        return False
    is_same = (manifest.request, manifest.inputs) == (values, fingerprints)
    return not is_same and _drop_rows_fields(manifest.request) == _drop_rows_fields(values)


def _drop_rows_fields(value: Any) -> Any:
    """Drop every field ``rows``, at any depth."""
    if isinstance(value, Mapping):
        return {name: _drop_rows_fields(each) for name, each in cast(Mapping[str, Any], value).items() if name != "rows"}
    return [_drop_rows_fields(each) for each in cast(list[Any], value)] if isinstance(value, list) else value
