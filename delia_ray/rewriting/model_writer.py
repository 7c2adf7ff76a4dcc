"""Writer of wordings from a language model that paraphrases the task's own instruction."""

import hashlib
import re
from collections.abc import Callable, Iterator

_STYLES = (
    "as a short command",
    "as a question",
    "as a polite request",
    "in the passive voice",
    "with the purpose first",
    "as two sentences",
    "as a conditional sentence that begins with if",
    "in a casual tone",
    "in a formal tone",
    "as a statement of what is wanted",
    "in other words and another order",
    "at greater length",
)

_PROMPT = """Rewrite the instruction below {style}. Use other verbs and another sentence structure, and keep what it asks for.{keep}
Reply with the rewritten instruction alone, on one line.

Instruction: {instruction}"""

_KEEP = " Write {placeholder} exactly as it is written here, and do not explain or replace it."

_LIST_MARK = re.compile(r"^(?:[-*•]|\(?\d{1,3}[.):])\s+")
_LABEL = re.compile(
    r"^[^:]{0,60}\b(?:rewritten|reworded|rephrased|paraphrased?|rewrite|instruction|version)\b[^:]{0,30}:\s*", re.IGNORECASE
)
_QUOTES = (("**", "**"), ('"', '"'), ("'", "'"), ("`", "`"), ("\u201c", "\u201d"), ("\u2018", "\u2019"))


class ModelWriter:
    """Generates paraphrases with ``complete``, one at a time and in changing styles.

    Args:
        complete: takes a prompt and a sampling seed in [0, 2**31), returns the model's text.
        instruction: the wording to paraphrase.
        placeholder: the token that ``instruction`` names; empty for a task without a token.
        attempts_per_wording: maximal number of completions for each wording, on average.
        seed: seed of the sampling seeds.
    """

    def __init__(
        self, complete: Callable[[str, int], str], instruction: str, placeholder: str, *, attempts_per_wording: int, seed: int
    ) -> None:
        self._complete = complete
        self._instruction = instruction
        self._placeholder = placeholder
        self._attempts_per_wording = attempts_per_wording
        self._seed = seed

    def propose(self, count: int) -> Iterator[str]:
        """Yield at most ``count * attempts_per_wording`` paraphrases; each is generated only when the caller asks for it."""
        keep = _KEEP.format(placeholder=self._placeholder) if self._placeholder else ""
        for attempt in range(count * self._attempts_per_wording):
            style = _STYLES[attempt % len(_STYLES)]
            prompt = _PROMPT.format(style=style, keep=keep, instruction=self._instruction)
            yield extract_wording(self._complete(prompt, _derive_seed(self._seed, attempt)), self._placeholder)


def extract_wording(text: str, placeholder: str) -> str:
    """Extract the wording from a model's answer: its first line that names ``placeholder``, else its first line, else nothing.

    Lines that end in a colon only introduce the wording and are skipped. List marks, a label such as
    ``Rewritten instruction:`` and quotes around the whole line are removed; quotes around the placeholder stay.
    """
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.endswith(":")]
    line = next((line for line in lines if placeholder in line), lines[0] if lines else "")
    previous = None
    while line != previous:
        previous = line
        line = _remove_quotes(_remove_label(_LIST_MARK.sub("", line), placeholder), placeholder)
    return line


def _remove_label(line: str, placeholder: str) -> str:
    label = _LABEL.match(line)
    has_placeholder = label and placeholder and placeholder in label[0]
    return line[label.end() :] if label and not has_placeholder else line


def _remove_quotes(line: str, placeholder: str) -> str:
    """Remove quotes around the whole ``line``; a quoted placeholder at either end is not such a pair."""
    for opening, closing in _QUOTES:
        bare = line.replace(f"{opening}{placeholder}{closing}", placeholder)
        inside = bare[len(opening) : -len(closing)]
        is_quoted = bare.startswith(opening) and bare.endswith(closing) and inside
        if is_quoted and opening not in inside and closing not in inside:
            return line[len(opening) : -len(closing)].strip()
    return line


def _derive_seed(seed: int, attempt: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{attempt}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
