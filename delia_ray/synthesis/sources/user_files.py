"""Files of the user's rows: on this disk, or in a data set of the Hugging Face hub."""

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from delia_ray.core.artifacts import Adopted
from delia_ray.core.errors import UserError
from delia_ray.synthesis.query_config import Columns, HubQueries
from delia_ray.synthesis.sources.user_rows import UserRows
from delia_ray.tasks.readers import find_data_files, hash_content

_PATTERNS: tuple[str, ...] = ("*.jsonl", "*.json", "*.csv", "*.jsonl.gz", "*.json.gz", "*.csv.gz", "*.parquet", "*.arrow")
_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")


def locate_local_rows(path: Path, columns: Columns, key: str) -> tuple[UserRows, Adopted]:
    """Locate the rows of a file or folder, and hash the content.

    Raises:
        UserError: the path does not exist, or it cannot be read.
    """
    path = path.expanduser()
    files = tuple(find_data_files(path, key))
    return UserRows(key, path, files, columns), Adopted(path, hash_content(path, files))


def download_hub_rows(hub: HubQueries, key: str) -> tuple[UserRows, Adopted]:
    """Download the rows of a data set of the hub, unless they are in its cache, and record their commit.

    Raises:
        UserError: there is no such data set or revision, the hub cannot be reached, or no file belongs to the split.
    """
    folder = _download(hub, f"{key}.name")
    files = [file for file in find_data_files(folder, f"{key}.name") if fnmatchcase(str(file.relative_to(folder)), hub.files or "*")]
    if not files:
        raise UserError(f"{key}.files: no file of {hub.name} matches {hub.files!r}; give another glob")
    paths = select_split_files([str(file.relative_to(folder)) for file in files], hub.split)
    if not paths:
        shown = ", ".join(str(file.relative_to(folder)) for file in files[:8])
        raise UserError(f"{key}.split: no file of {hub.name} is of the split {hub.split!r}, found {shown}; give another split or `files`")
    return UserRows(f"{key}.name", folder, tuple(folder / path for path in paths), hub.columns), Adopted(folder, folder.name)


def select_split_files(paths: Sequence[str], split: str) -> list[str]:
    """Select the paths that contain ``split`` as a word. As in ``datasets``, all are ``train`` where none names a split."""
    selected = [path for path in paths if _has_word(path, split)]
    if not selected and split == "train" and not any(_has_word(path, other) for path in paths for other in _SPLITS):
        return list(paths)
    return selected


def _has_word(path: str, word: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word.lower())}(?![a-z0-9])", path.lower()) is not None


def _download(hub: HubQueries, key: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  only data sets of the hub need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    patterns = list(_PATTERNS) if hub.files is None else [hub.files]
    token = os.environ.get("HF_TOKEN") or False
    try:
        return Path(snapshot_download(hub.name, repo_type="dataset", revision=hub.revision, allow_patterns=patterns, token=token))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        revision = f" at {hub.revision}" if hub.revision else ""
        raise UserError(f"{key}: {hub.name}{revision} cannot be had from the hub ({reason}); check name, revision and network") from None
