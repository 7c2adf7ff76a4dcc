"""Resolve a model name to a folder: built-in, local, or from the Hugging Face hub."""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from delia_ray.core.artifacts import Adopted
from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import fingerprint, hash_file
from delia_ray.core.storage.objects import exists, write_bytes
from delia_ray.core.storage.paths import is_remote
from delia_ray.core.storage.transfer import upload
from delia_ray.models import builtin_model as builtin

_ABANDONED_SECONDS = 24 * 3600
_WEIGHTS = "*.safetensors"
_FILE_PATTERNS = ("*.json", "*.jinja", "*.txt", "*.model", _WEIGHTS)


TemplateArgument = bool | int | float | str | None
"""Value of an argument of a chat template."""


@dataclass(frozen=True)
class ModelFolder(Adopted):
    """A model folder, identified by the hash of its content and of its chat template arguments."""

    template_arguments: tuple[tuple[str, TemplateArgument], ...] = ()
    """``chat_template_kwargs``, sorted by name."""


def adopt_model(name: str, key: str = "model", template_arguments: Mapping[str, TemplateArgument] | None = None) -> ModelFolder:
    """Resolve ``name`` to a folder, and hash its weights, configuration and tokenizer.

    Args:
        name: ``builtin:smollm2-135m-instruct``, a folder, or a hub id ``owner/name[@revision]``.
        key: config key of the name, for messages.
        template_arguments: arguments of its chat template.

    Raises:
        UserError: there is no such model, or a file that tuning needs is missing.
    """
    folder = _resolve_folder(name, key, _FILE_PATTERNS)
    _check_files(folder, key)
    content = fingerprint({file.name: hash_file(file) for file in _list_files(folder)})
    if not template_arguments:
        return ModelFolder(folder, content)
    identity = fingerprint({"model": content, "chat_template_kwargs": dict(template_arguments)})
    return ModelFolder(folder, identity, tuple(sorted(template_arguments.items())))


def find_model(name: str, template_arguments: Mapping[str, TemplateArgument] | None = None) -> ModelFolder:
    """Resolve ``model`` to a folder without its identity: no weights are read, and none are downloaded.

    Raises:
        UserError: there is no such model, or a file that tuning needs is missing.
    """
    is_folder = Path(name).expanduser().is_dir()
    folder = _resolve_folder(name, "model", tuple(pattern for pattern in _FILE_PATTERNS if pattern != _WEIGHTS))
    _check_files(folder, "model", with_weights=is_folder)
    return ModelFolder(folder, "", tuple(sorted((template_arguments or {}).items())))


def _check_files(folder: Path, key: str, *, with_weights: bool = True) -> None:
    if not (folder / "config.json").exists():
        raise UserError(f"{key}: {folder} has no config.json; name a Hugging Face model folder")
    if not any((folder / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"{key}: {folder} has no tokenizer; save one into it with tokenizer.save_pretrained")
    if with_weights and not any(folder.glob(_WEIGHTS)):
        raise UserError(f"{key}: {folder} has no *.safetensors; convert the weights with save_pretrained(safe_serialization=True)")


def is_no_weight(file: Path) -> bool:
    """Whether a file of a model's folder is small, which all are but its weights."""
    return file.suffix != ".safetensors"


def share_model(model: ModelFolder, root: Path) -> ModelFolder:
    """Return ``model`` below ``root``, which all nodes of a cluster see: hard links where the file system allows, otherwise copies; in an
    object store its files, from where each node fetches what it needs.

    Args:
        root: folder of all runs, which share the model.
    """
    shared = root / ".models" / model.fingerprint
    if is_remote(shared):
        _upload_model(model, shared)
        return replace(model, path=shared)
    if not shared.is_dir():
        shared.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(shared.parent)
        partial = Path(tempfile.mkdtemp(dir=shared.parent, prefix=".partial-"))
        for file in _list_files(model.path):
            _link_or_copy(file.resolve(), partial / file.name)
        with suppress(OSError):  # another run was faster
            partial.rename(shared)
        shutil.rmtree(partial, ignore_errors=True)
    return replace(model, path=shared)


def _remove_abandoned(models: Path) -> None:
    """Remove copies that a killed run did not finish; another run's that is under way is younger."""
    for partial in models.glob(".partial-*"):
        with suppress(OSError):
            if partial.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(partial)


def _upload_model(model: ModelFolder, shared: Path) -> None:
    complete = shared.with_name(f"{shared.name}.complete")
    if not exists(complete):
        for file in _list_files(model.path):
            upload(file, shared / file.name)
        write_bytes(complete, b"")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _list_files(folder: Path) -> list[Path]:
    return sorted({file for pattern in _FILE_PATTERNS for file in folder.glob(pattern)})


def _resolve_folder(name: str, key: str, patterns: Sequence[str]) -> Path:
    """Return the local folder of a model; unpack the built-in one, download the files of ``patterns`` of one from the hub."""
    if name.startswith("builtin:"):
        if name != builtin.NAME:
            raise UserError(f"{key}: {name!r} is not built in; the one built-in model is {builtin.NAME}")
        return builtin.unpack(Path(os.environ.get("DELIA_CACHE", platformdirs.user_cache_dir("delia_ray"))))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    owner_and_name = name.partition("@")[0]
    if name.startswith((".", "/", "~")) or owner_and_name.count("/") != 1:
        raise UserError(f"{key}: there is no folder {name}; name a folder, a hub id such as owner/name, or {builtin.NAME}")
    return _download(name, key, patterns)


def _download(name: str, key: str, patterns: Sequence[str]) -> Path:
    """Download a model from the Hugging Face hub into its cache."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415  only hub models need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{key}: {name} cannot be downloaded from the hub ({reason}); check the name and the network, or name a folder"
        ) from None
