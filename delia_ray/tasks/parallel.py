"""Pairs of a text and its translation: from files of many forms, and from sacreBLEU's test sets."""

import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never, cast

from sacrebleu.dataset import DATASETS

from delia_ray.errors import UserError
from delia_ray.readers import BadRow, parsed_rows
from delia_ray.records import row_id
from delia_ray.tasks.config import FilePairs, SacrebleuPairs
from delia_ray.tasks.messages import unusable_text


@dataclass(frozen=True)
class Pair:
    """A text and its translation."""

    number: int
    """Its place among the pairs of its source, from 0."""
    document: str
    """Names what it was cut from; pairs of one document tell about each other."""
    source: str
    target: str


def read_pairs(pairs: FilePairs | SacrebleuPairs, key: str) -> list[Pair]:
    """All pairs, in their order.

    Args:
        key: the setting that names them, for errors.

    Raises:
        UserError: the file or the test set cannot be read or is empty, or a row is no pair.
    """
    match pairs:
        case FilePairs():
            texts = _file_texts(pairs, key)
        case SacrebleuPairs():
            texts = _test_set_texts(pairs, key)
        case _:
            assert_never(pairs)
    found = [Pair(number, document, source, target) for number, (document, source, target) in enumerate(texts)]
    if not found:
        raise UserError(f"{key}: {pairs.path if isinstance(pairs, FilePairs) else pairs.test_set} holds no pairs; name one that does")
    return found


def pair_files(pairs: FilePairs | SacrebleuPairs, key: str) -> list[Path]:
    """The files that ``read_pairs`` reads.

    Raises:
        UserError: the test set is not there.
    """
    match pairs:
        case FilePairs(path=path):
            return [path]
        case SacrebleuPairs():
            fields = _test_set_files(pairs, key)
            return [fields["src"], fields["ref"]]
        case _:
            assert_never(pairs)


def _file_texts(pairs: FilePairs, key: str) -> Iterator[tuple[str, str, str]]:
    is_tsv = pairs.path.suffix == ".tsv"
    names = (pairs.source or ("1" if is_tsv else "source"), pairs.target or ("2" if is_tsv else "target"))
    for where, row in _tsv_rows(pairs.path, key) if is_tsv else parsed_rows(pairs.path, key):
        if isinstance(row, BadRow):
            raise UserError(f"{where}: {row.problem}; mend the row or take it out")
        source, target = (_text(row, name, side, where) for name, side in zip(names, ("source", "target"), strict=True))
        ours, theirs = (text.strip().split("\n")[pairs.skip_lines :] for text in (source, target))
        document = row_id(source)
        if pairs.unit == "line":
            if len(ours) != len(theirs):
                raise UserError(
                    f"{where}: the text has {len(ours)} lines and its translation {len(theirs)}, so lines do not pair; mend the row, "
                    "or set unit to text"
                )
            yield from _both((document, one, other) for one, other in zip(ours, theirs, strict=True))
        elif not "".join(ours).strip() or not "".join(theirs).strip():
            raise UserError(f"{where}: nothing is left of a side after skip_lines={pairs.skip_lines}; lower it or mend the row")
        else:
            yield document, "\n".join(ours).strip(), "\n".join(theirs).strip()


def _both(texts: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """The pairs of which neither side is blank."""
    yield from ((document, source.strip(), target.strip()) for document, source, target in texts if source.strip() and target.strip())


def _tsv_rows(file: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cells under the numbers of their columns. Quotes are part of a text, as in the files of WMT."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: {file} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{key}: {file}: {error.strerror}; name a file that can be read") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{key}: {file} line {number}", {str(place): cell for place, cell in enumerate(line.split("\t"), start=1)}


def _text(row: dict[str, Any], name: str, side: str, where: str) -> str:
    value: Any = row
    for part in [name] if name in row else name.split("."):
        value = cast(dict[str, Any], value).get(part) if isinstance(value, dict) else None
    if problem := unusable_text(value):
        raise UserError(f"{where}: {name!r} is {problem}; the row has {', '.join(row) or 'no fields'}, and `{side}` says which to take")
    return cast(str, value)


def _test_set_texts(pairs: SacrebleuPairs, key: str) -> Iterator[tuple[str, str, str]]:
    fields = _test_set_files(pairs, key)
    columns = {name: file.read_text(encoding="utf-8").split("\n") for name, file in fields.items()}
    documents = columns.get("docid") or [row_id(source) for source in columns["src"]]
    yield from _both(zip(documents, columns["src"], columns["ref"], strict=True))


def _test_set_files(pairs: SacrebleuPairs, key: str) -> dict[str, Path]:
    """``src``, ``ref`` and, where there is one, ``docid`` of a test set, downloaded if they are not in sacreBLEU's cache."""
    name, langpair = pairs.test_set, pairs.langpair
    if name not in DATASETS:
        near = ", ".join(sorted(each for each in DATASETS if each[:3] == name[:3])) or "wmt21, wmt22, wmt23"
        raise UserError(f"{key}.test_set: sacreBLEU has no {name!r}; it has {near} and more (`sacrebleu --list`)")
    data_set = cast(Any, DATASETS[name])
    if langpair not in data_set.langpairs:
        raise UserError(f"{key}.langpair: {name} has no {langpair!r}; it has {', '.join(sorted(data_set.langpairs))}")
    try:
        files = dict(zip(data_set.fieldnames(langpair), data_set.get_files(langpair), strict=True))
        references = data_set.get_reference_files(langpair)
    except (OSError, EOFError, SystemExit, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{key}: {name} is not in sacreBLEU's cache ({data_set._outdir}) and cannot be downloaded ({error}); where there is a network, "
            f"run `sacrebleu -t {name} -l {langpair} --echo src ref > {name.replace('/', '_')}.{langpair}.tsv`, "
            f"bring that file and set {key}={{kind: file, path: {name.replace('/', '_')}.{langpair}.tsv}}"
        ) from None
    found = {"src": Path(files["src"]), "ref": Path(references[0])}
    return {**found, "docid": Path(files["docid"])} if "docid" in files else found
