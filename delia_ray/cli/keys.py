"""The keys of the YAML: listed for people, and as a JSON Schema for editors."""

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

from delia_ray.core.config_keys import ANY_NAME, Key, iter_keys
from delia_ray.core.errors import UserError
from delia_ray.pipeline.experiment.config import ExperimentSettings

SCHEMA_URL = "https://json-schema.org/draft/2020-12/schema"


def list_keys(prefix: str) -> str:
    """The keys at or below ``prefix``, each with its default and documentation; all of them for an empty one.

    Args:
        prefix: dotted; where a key has a name of the user's choice, any name, or NAME.

    Raises:
        UserError: no key begins with ``prefix``.
    """
    keys = [replace(key, path=_fill_names(key.path, prefix.split("."))) for key in iter_keys(ExperimentSettings)]
    chosen = [key for key in keys if not prefix or key.path == prefix or key.path.startswith(f"{prefix}.")]
    if not chosen:
        sections = sorted({name for key in keys for name in _prefixes(key.path)})
        near = get_close_matches(prefix, sections, n=1, cutoff=0.7)
        raise UserError(f"no key {prefix!r}" + (f"; did you mean {near[0]}?" if near else "; `delia keys` lists all"))
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(_show(key), width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False) for key in chosen
    )


def list_sections() -> list[str]:
    """The top-level keys, in the order of the YAML."""
    return list(dict.fromkeys(key.path.partition(".")[0] for key in iter_keys(ExperimentSettings)))


def json_schema() -> str:
    """The JSON Schema of a config, for editors that complete and check YAML."""
    schema = {"$schema": SCHEMA_URL, "title": "delia_ray config", **ExperimentSettings.model_json_schema()}
    return json.dumps(schema, indent=1)


def _show(key: Key) -> str:
    """Format a key as ``task.train [messages]  (required)  File or folder of training rows.``"""
    kinds = f" [{', '.join(key.kinds)}]" if key.kinds else ""
    return f"{key.path}{kinds}  ({key.default})  {key.description}".rstrip()


def _fill_names(path: str, asked: Sequence[str]) -> str:
    """Put the steps of ``asked`` in place of the NAME of ``path``."""
    steps = path.split(".")
    return ".".join(asked[index] if step == ANY_NAME and index < len(asked) else step for index, step in enumerate(steps))


def _prefixes(key: str) -> Iterator[str]:
    parts = key.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))
