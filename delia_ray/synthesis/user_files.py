"""Where the user's rows are: on this disk, or on the Hugging Face hub."""

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from delia_ray.artifacts import Adopted
from delia_ray.errors import UserError
from delia_ray.readers import content_hash, data_files
from delia_ray.synthesis.queries import UserRows
from delia_ray.synthesis.query_config import Columns, HubQueries

_PATTERNS: tuple[str, ...] = ("*.jsonl", "*.json", "*.csv", "*.jsonl.gz", "*.json.gz", "*.csv.gz", "*.parquet", "*.arrow")
_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")


def local_rows(place: Path, columns: Columns, key: str) -> tuple[UserRows, Adopted]:
    """The rows of a file or folder, and the hash of their bytes.

    Raises:
        UserError: nothing is there, or it cannot be read.
    """
    place = place.expanduser()
    files = tuple(data_files(place, key))
    return UserRows(key, place, files, columns), Adopted(place, content_hash(place, files))


def hub_rows(hub: HubQueries, key: str) -> tuple[UserRows, Adopted]:
    """The rows of a data set of the hub, and the commit they are from. What was downloaded before is not downloaded again.

    Raises:
        UserError: there is no such set or revision, the hub cannot be reached, or no file of the set is of that split.
    """
    folder = _download(hub, f"{key}.name")
    files = [file for file in data_files(folder, f"{key}.name") if fnmatchcase(str(file.relative_to(folder)), hub.files or "*")]
    if not files:
        raise UserError(f"{key}.files: no file of {hub.name} matches {hub.files!r}; give another glob")
    paths = split_files([str(file.relative_to(folder)) for file in files], hub.split)
    if not paths:
        shown = ", ".join(str(file.relative_to(folder)) for file in files[:8])
        raise UserError(f"{key}.split: no file of {hub.name} is of the split {hub.split!r}, found {shown}; give another split or `files`")
    return UserRows(f"{key}.name", folder, tuple(folder / path for path in paths), hub.columns), Adopted(folder, folder.name)


def split_files(paths: Sequence[str], split: str) -> list[str]:
    """Those of ``paths`` that have ``split`` as a word; all of them as ``train`` where none names a split, as ``datasets`` has it."""
    found = [path for path in paths if _has_word(path, split)]
    if not found and split == "train" and not any(_has_word(path, other) for path in paths for other in _SPLITS):
        return list(paths)
    return found


def _has_word(path: str, word: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word.lower())}(?![a-z0-9])", path.lower()) is not None


def _download(hub: HubQueries, key: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  only hub sets need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    patterns = list(_PATTERNS) if hub.files is None else [hub.files]
    token = os.environ.get("HF_TOKEN") or False
    try:
        return Path(snapshot_download(hub.name, repo_type="dataset", revision=hub.revision, allow_patterns=patterns, token=token))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        at = f" at {hub.revision}" if hub.revision else ""
        raise UserError(f"{key}: {hub.name}{at} cannot be had from the hub ({reason}); check name, revision and network") from None
