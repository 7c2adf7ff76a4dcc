from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.patterns import check_pattern
from delia_ray.tasks.metric_names import BleuTokens, Metrics, check_bleu_tokens


def _bare(token: str) -> str:
    if len(token) > 2 and token[0] == token[-1] and token[0] in "\"'`":
        raise UserError(f"{token} has quotation marks around it, which would be part of the token; write {token[1:-1]}")
    return token


NewToken = Annotated[str, Field(min_length=1, pattern=r"^\S+$"), AfterValidator(_bare)]


class MeanInit(Config):
    """The mean of all rows, which puts the token where the model knows nothing of it."""

    kind: Literal["mean"] = "mean"


class NoiseInit(Config):
    """Gaussian noise with the mean and standard deviation of the existing rows."""

    kind: Literal["noise"] = "noise"
    seed: int = 0
    """Seed of the noise."""


class DescriptionInit(Config):
    """The mean of the rows of a text that says what the token means."""

    kind: Literal["description"] = "description"
    text: str = Field(min_length=1)
    """The text."""


class CopyInit(Config):
    """The row of a token that the model knows."""

    kind: Literal["copy"] = "copy"
    token: str = Field(min_length=1)
    """That token, as the vocabulary spells it."""


TokenInit = Annotated[MeanInit | NoiseInit | DescriptionInit | CopyInit, Field(discriminator="kind")]


class FormatTask(Config):
    """The paper's formatted generation: judge an exchange in a format that only a new token names."""

    kind: Literal["format"] = "format"
    train: int = Field(default=64, ge=2, le=320)
    """Items to learn from (N)."""
    dev: int = Field(default=32, ge=2, le=80)
    """Items to choose settings on."""
    test: int = Field(default=128, ge=2, le=200)
    """Items to score on."""
    token: NewToken = "<sep>"
    """The new special token."""
    token_init: TokenInit = MeanInit()
    """How its embedding row starts."""
    vocabulary_multiple: int = Field(default=1, ge=1)
    """The vocabulary grows to a multiple of this; 64 suits the matrix units of GPUs."""
    metric: Literal["format"] = "format"
    """FormatAcc, LabelAcc and their kin."""
    seed: int = 0
    """Seed of the split and of the labels."""


class MessagesTask(Config):
    """The user's own task: conversations, each ending with the assistant's target.

    JSONL (also .gz), JSON, CSV, Parquet or Arrow files, or folders of them; rows of OpenAI's format (``messages``), ShareGPT
    (``conversations``), Alpaca (``instruction``, ``input``, ``output``), or ``prompt`` and ``completion``.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    kind: Literal["messages"]
    train: Path
    """File or folder of rows to learn from."""
    test: Path
    """File or folder of rows to score on."""
    token: NewToken | None = None
    """A new special token that the rows use, if any."""
    token_init: TokenInit = MeanInit()
    """How its embedding row starts."""
    vocabulary_multiple: int = Field(default=1, ge=1)
    """The vocabulary grows to a multiple of this; 64 suits the matrix units of GPUs."""
    instruction: str | None = Field(default=None, min_length=1)
    """The sentence of each last user turn that ``rewrite`` may word anew; null leaves the rows as they are."""
    metric: Metrics = ("exact_match",)
    """How an answer is scored against the row's target: exact_match, contains, json_valid, json_match, json_schema, regex, rouge_l,
    bleu, chrf, comet, bleurt, or ``module:function`` of your own; one or a list."""
    schema_: Path | None = Field(default=None, alias="schema")
    """File with the JSON Schema of metric json_schema."""
    pattern: str | None = Field(default=None, min_length=1)
    """Regular expression of metric regex; it must match the whole trimmed answer."""
    bleu_tokens: BleuTokens = "auto"
    """What metric bleu counts: sacreBLEU's tokenizer. auto: the one for the script of most targets."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else check_pattern(pattern)

    @model_validator(mode="after")
    def _metrics_have_what_they_need(self) -> Self:
        check_bleu_tokens(self.metric, self.bleu_tokens)
        for metric, key, given in (("json_schema", "schema", self.schema_), ("regex", "pattern", self.pattern)):
            if metric in self.metric and given is None:
                raise UserError(f"{key} is missing, and metric {metric} needs it; set task.{key}")
            if metric not in self.metric and given is not None:
                raise UserError(f"{key}: found {str(given)!r}, but only metric {metric} reads it; add it to task.metric or leave {key} out")
        return self


class FilePairs(Config):
    """Parallel texts in a file: JSONL, CSV or Parquet with a field for each side, or TSV without a header."""

    kind: Literal["file"]
    path: Path
    """The file."""
    source: str | None = Field(default=None, min_length=1)
    """Field to translate, ``a.b`` for ``b`` inside ``a``; in a TSV the number of its column. null: ``source``, in a TSV ``1``."""
    target: str | None = Field(default=None, min_length=1)
    """Field with the translation. null: ``target``, in a TSV ``2``."""
    unit: Literal["text", "line"] = "text"
    """text: a row is a pair. line: a row is a document, and each of its lines with the same line of the translation is a pair."""
    skip_lines: int = Field(default=0, ge=0)
    """Lines at the head of both texts of a row that are no part of either."""


class SacrebleuPairs(Config):
    """A public test set, through sacreBLEU's own loader and cache; of several references, the first."""

    kind: Literal["sacrebleu"]
    test_set: str = Field(min_length=1)
    """Its name, as ``sacrebleu --list`` gives it, for example wmt21."""
    langpair: str = Field(min_length=1)
    """The two languages, for example is-en."""


Pairs = Annotated[FilePairs | SacrebleuPairs, Field(discriminator="kind")]


class TranslationTask(Config):
    """Translation of any language into any other."""

    kind: Literal["translation"]
    source_language: str = Field(min_length=1)
    """What is translated, in words that the model knows: ``Icelandic``."""
    target_language: str = Field(min_length=1)
    """What it is translated into."""
    pairs: Pairs
    """Where pairs come from, for every split that has no pairs of its own."""
    dev_pairs: Pairs | None = None
    """Pairs of the dev split. null: some of ``pairs``."""
    test_pairs: Pairs | None = None
    """Pairs of the test split. null: some of ``pairs``."""
    train: int = Field(default=64, ge=1)
    """Pairs to learn from (N); those of a smaller N are contained in those of a larger one."""
    dev: int = Field(default=0, ge=0)
    """Pairs to choose settings on."""
    test: int | None = Field(default=100, ge=1)
    """Pairs to score on. null: all of ``test_pairs``, in their order."""
    max_words: int | None = Field(default=None, ge=1)
    """Pairs of which a side has more words than this are left out; of scripts without spaces, two letters are a word. null: none."""
    instruction: str | None = Field(default=None, min_length=1)
    """What is asked above each text, and what ``rewrite`` may word anew. null: to translate it, or to follow ``token``."""
    token: NewToken | None = None
    """A new special token that asks for the translation, if any."""
    token_init: TokenInit = MeanInit()
    """How its embedding row starts."""
    vocabulary_multiple: int = Field(default=1, ge=1)
    """The vocabulary grows to a multiple of this; 64 suits the matrix units of GPUs."""
    metric: Metrics = ("chrf", "bleu")
    """chrf (chrF++), bleu, comet, bleurt, rouge_l, exact_match, contains, or ``module:function`` of your own; one or a list, the main one
    first."""
    bleu_tokens: BleuTokens = "auto"
    """What metric bleu counts: sacreBLEU's tokenizer. auto: the one for the script of most translations."""
    seed: int = 0
    """Seed of the splits."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.test is None and self.test_pairs is None:
            raise UserError("test: null takes all of test_pairs, and there are none; give test_pairs, or a number of pairs")
        if self.dev_pairs is not None and not self.dev:
            raise UserError("dev: 0 takes none of dev_pairs; give a number of pairs, or leave dev_pairs out")
        if self.token and self.instruction and self.token not in self.instruction:
            raise UserError(f"instruction: {self.instruction!r} does not name task.token={self.token!r}; put it in")
        check_bleu_tokens(self.metric, self.bleu_tokens)
        if "\n\n" in (self.instruction or ""):
            raise UserError(f"instruction: {self.instruction!r} has a blank line, after which the text begins; make it one paragraph")
        if odd := [name for name in self.metric if name.startswith("json_") or name == "regex"]:
            raise UserError(f"metric: {odd[0]} judges a form, not a translation; use chrf, bleu, rouge_l, or a function of your own")
        return self

    @property
    def asked(self) -> str:
        """``instruction`` with its default filled in."""
        if self.instruction is not None:
            return self.instruction
        if self.token is not None:
            return f"Follow {self.token} for the text below."
        return f"Translate this text from {self.source_language} into {self.target_language}."


class Decontaminate(Config):
    """When a training row, the task's own or a diverse one, is too close to a dev or test item or an everyday prompt.

    Such rows are left out and listed.
    """

    ngram_words: int = Field(default=13, ge=2)
    """Words in a row that an item, a query or an answer may not share with one; of scripts without spaces (Chinese, Japanese, Thai,
    Lao, Khmer, Burmese, ...) twice as many letters."""
    similarity: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of runs of three words, in scripts without spaces of three letters, from which on it is a near-duplicate."""


TaskConfig = Annotated[FormatTask | MessagesTask | TranslationTask, Field(discriminator="kind")]
