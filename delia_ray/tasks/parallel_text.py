"""Parallel texts: translation pairs from JSONL, CSV, Parquet and TSV files, and from sacreBLEU's test sets."""

import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never, cast

from sacrebleu.dataset import DATASETS

from delia_ray.core.errors import UserError
from delia_ray.core.records import make_row_id
from delia_ray.tasks.config import FilePairs, SacrebleuPairs
from delia_ray.tasks.messages import find_text_problem
from delia_ray.tasks.readers import BadRow, parse_rows


@dataclass(frozen=True)
class TranslationPair:
    """A text and its translation."""

    number: int
    """Index among the pairs of its file or test set, from 0."""
    document: str
    """Id of the document it belongs to; pairs of one document are not independent."""
    source: str
    target: str


def read_pairs(pairs: FilePairs | SacrebleuPairs, key: str) -> list[TranslationPair]:
    """Read all pairs, in order.

    Args:
        key: config key of the pairs, for errors.

    Raises:
        UserError: the file or the test set cannot be read or is empty, or a row is not a pair.
    """
    match pairs:
        case FilePairs():
            texts = _read_file(pairs, key)
        case SacrebleuPairs():
            texts = _read_test_set(pairs, key)
        case _:
            assert_never(pairs)
    result = [TranslationPair(number, document, source, target) for number, (document, source, target) in enumerate(texts)]
    if not result:
        raise UserError(f"{key}: {pairs.path if isinstance(pairs, FilePairs) else pairs.test_set} holds no pairs; name one that does")
    return result


def find_pair_files(pairs: FilePairs | SacrebleuPairs, key: str) -> list[Path]:
    """Return the files that ``read_pairs`` reads.

    Raises:
        UserError: the test set does not exist or cannot be downloaded.
    """
    match pairs:
        case FilePairs(path=path):
            return [path]
        case SacrebleuPairs():
            fields = _fetch_test_set(pairs, key)
            return [fields["src"], fields["ref"]]
        case _:
            assert_never(pairs)


def _read_file(pairs: FilePairs, key: str) -> Iterator[tuple[str, str, str]]:
    """Yield document id, source and target of each pair of a file."""
    is_tsv = pairs.path.suffix == ".tsv"
    names = (pairs.source or ("1" if is_tsv else "source"), pairs.target or ("2" if is_tsv else "target"))
    for location, row in _tsv_rows(pairs.path, key) if is_tsv else parse_rows(pairs.path, key):
        if isinstance(row, BadRow):
            raise UserError(f"{location}: {row.problem}; correct the row or take it out")
        source, target = (_get_text(row, name, side, location) for name, side in zip(names, ("source", "target"), strict=True))
        source_lines, target_lines = (text.strip().split("\n")[pairs.skip_lines :] for text in (source, target))
        document = make_row_id(source)
        if pairs.unit == "line":
            if len(source_lines) != len(target_lines):
                raise UserError(
                    f"{location}: the text has {len(source_lines)} lines and its translation {len(target_lines)}, so lines "
                    "do not pair; correct the row, or set unit to text"
                )
            yield from _drop_blank_pairs((document, one, other) for one, other in zip(source_lines, target_lines, strict=True))
        elif not "".join(source_lines).strip() or not "".join(target_lines).strip():
            raise UserError(f"{location}: the source or target is empty after skip_lines={pairs.skip_lines}; lower it or correct the row")
        else:
            yield document, "\n".join(source_lines).strip(), "\n".join(target_lines).strip()


def _drop_blank_pairs(texts: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """Yield the pairs with neither side blank, stripped."""
    yield from ((document, source.strip(), target.strip()) for document, source, target in texts if source.strip() and target.strip())


def _tsv_rows(file: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the rows of a TSV file, keyed by column number. Quotes are part of a text, as in WMT's files."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: {file} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{key}: {file}: {error.strerror}; name a file that can be read") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{key}: {file} line {number}", {str(column): cell for column, cell in enumerate(line.split("\t"), start=1)}


def _get_text(row: dict[str, Any], name: str, side: str, location: str) -> str:
    """Return the text of a field, ``a.b`` for ``b`` inside ``a``; refuse what is not a text."""
    value: Any = row
    for part in [name] if name in row else name.split("."):
        value = cast(dict[str, Any], value).get(part) if isinstance(value, dict) else None
    if problem := find_text_problem(value):
        raise UserError(f"{location}: {name!r} is {problem}; the row has {', '.join(row) or 'no fields'}, and `{side}` selects one")
    return cast(str, value)


def _read_test_set(pairs: SacrebleuPairs, key: str) -> Iterator[tuple[str, str, str]]:
    """Yield document id, source and target of each pair of a sacreBLEU test set."""
    fields = _fetch_test_set(pairs, key)
    columns = {name: file.read_text(encoding="utf-8").split("\n") for name, file in fields.items()}
    documents = columns.get("docid") or [make_row_id(source) for source in columns["src"]]
    yield from _drop_blank_pairs(zip(documents, columns["src"], columns["ref"], strict=True))


def _fetch_test_set(pairs: SacrebleuPairs, key: str) -> dict[str, Path]:
    """Return the files ``src``, ``ref`` and, if any, ``docid`` of a test set; download them if sacreBLEU's cache lacks them."""
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
    fields = {"src": Path(files["src"]), "ref": Path(references[0])}
    return {**fields, "docid": Path(files["docid"])} if "docid" in files else fields
