"""Titles and explanations of all metrics and arms, for readers who do not know them yet."""

from typing import NamedTuple

from delia_ray.core.layout import BASE, INSTRUCTED
from delia_ray.evaluation.metrics.definitions import find_definition
from delia_ray.tasks.answer_metrics import OWN_METRIC, Better


class MetricText(NamedTuple):
    """A metric's title and explanation."""

    title: str
    meaning: str
    """One sentence; ``TOKEN`` stands for the run's token."""


class Metric(NamedTuple):
    """A metric's title, explanation and better direction."""

    title: str
    meaning: str
    better: Better | None
    """None where the better direction is not known."""
    is_share: bool
    """Whether values lie in 0..1, or are differences of such values."""


METRICS = {
    "format_acc": MetricText(
        "Format on request", "Test items whose instruction names only TOKEN: share of answers in exactly the task's format."
    ),
    "label_acc": MetricText(
        "Right label", "The same items: share of answers in the format and with the right label; anything else counts as wrong."
    ),
    "bal_acc": MetricText("Right label, balanced", "The same items: right label, averaged over the two labels (balanced accuracy)."),
    "f1_yes": MetricText("F1 of “yes”", "The same items: F1 of the label “yes”, the harmonic mean of its precision and recall."),
    "no_token": MetricText(
        "Format without the token", "The same items, asked in plain words without TOKEN: share of answers in the format."
    ),
    "selectivity": MetricText(
        "Selectivity",
        "Format on request minus format without the token. Near 1, TOKEN brings the format; near 0, it makes no difference.",
    ),
    "spill": MetricText("Spill", "Everyday prompts that have nothing to do with the task: share of answers in the format."),
    "false_trigger": MetricText("False trigger", "Items that say not to use TOKEN: share of answers in the format."),
    "plug_play": MetricText("Plug and play", "Other kinds of tasks that ask for TOKEN: share of answers in the format."),
    "retention_kl": MetricText(
        "Drift",
        "Everyday prompts: mean KL divergence from the untuned model, per token of the untuned model's own answers, in nats.",
    ),
    "retention_match": MetricText(
        "Answers kept", "Everyday prompts: share of greedy answers that equal the untuned model's word for word."
    ),
    "exact_match": MetricText("Exact match", "Test rows: share of answers equal to the target."),
    "contains": MetricText("Contains the target", "Test rows: share of answers that contain the target."),
    "json_valid": MetricText("Valid JSON", "Test rows: share of answers that parse as JSON."),
    "json_match": MetricText("Equal JSON", "Test rows: share of answers that parse to the same JSON value as the target."),
    "json_schema": MetricText("JSON of the schema", "Test rows: share of answers that are valid under the task's JSON schema."),
    "regex": MetricText("Matches the pattern", "Test rows: share of answers that match the task's regular expression in full."),
    "rouge_l": MetricText("ROUGE-L", "Test rows: mean F1 of the longest common subsequence of words of answer and target."),
    "bleu": MetricText("BLEU", "All test rows together, 0 to 100: runs of one to four words shared with the targets."),
    "comet": MetricText("COMET", "Test rows: mean score by a model trained on human judgments, from source, answer and reference."),
    "bleurt": MetricText("BLEURT", "Test rows: mean score by a model trained on human judgments, from answer and reference."),
    "chrf": MetricText("chrF++", "All test rows together, 0 to 100: runs of characters and words shared with the targets."),
}
"""Metric -> title and explanation."""
ARMS = {
    BASE: ("Untuned", "the untuned model", "The model before any tuning."),
    INSTRUCTED: (
        "Untuned, instructed",
        "the untuned model with the instruction",
        "The untuned model; each prompt has the token's meaning in words in place of the token.",
    ),
    "sft": (
        "Plain tuning",
        "plain tuning",
        "Plain supervised fine-tuning (SFT) on the same task rows, for as many steps, without diverse rows.",
    ),
    "sft_paraphrase": (
        "Plain, many wordings",
        "plain tuning with many wordings",
        "Plain tuning, with the instruction in many wordings.",
    ),
    "sft_epochs": (
        "Plain, fewer steps",
        "plain tuning for fewer steps",
        "Plain tuning with passes over its own rows alone, and so for fewer steps than the other arms.",
    ),
    "sdft": (
        "Own words",
        "plain tuning on targets in the model's own words",
        "Plain tuning (SDFT) on targets that the untuned model rephrased in its own words.",
    ),
    "delia_no_rewrite": ("DELIA, one wording", "DELIA with one wording", "DELIA, with the instruction in its original wording only."),
    "replay": ("Replay", "replay", "As DELIA, but the answers of the diverse rows are not the model's own."),
    "low_diversity": ("One topic", "DELIA with one topic", "As DELIA, but all diverse rows are about one topic."),
    "diverse_only": ("Diverse rows only", "the diverse rows alone", "The diverse rows without any task rows."),
    "kl": (
        "KL",
        "the KL objective",
        "As DELIA, but the loss on diverse rows is the KL divergence from the untuned model in place of cross-entropy.",
    ),
    "neftune": ("NEFTune", "NEFTune", "Plain tuning with noise on the embeddings."),
    "token_only": ("Token only", "training the token's embedding alone", "Only the new token's embedding is trained."),
    "delia": ("DELIA", "DELIA", "The same task rows shuffled among diverse, unrelated rows that the untuned model answered itself."),
}
"""Arm -> title, name inside a sentence, explanation."""


def get_metric(metric: str) -> Metric:
    """Return the title and explanation of a metric; an unknown one has its name as title and no better direction.

    A function of the user's own (``module:function``) returns 0 to 1, and 1 is best.
    """
    if ":" in metric:
        name, meaning = metric.rpartition(":")[2], "Test rows: mean of this function's score for an answer; 1 is best."
        return Metric(name, meaning, OWN_METRIC.better, is_share=True)
    text, definition = METRICS.get(metric), find_definition(metric)
    if text is None or definition is None:
        return Metric(metric, "A metric of this task.", better=None, is_share=False)
    return Metric(*text, definition.better, is_share=definition.scale == "rates")


def get_metric_name(metric: str) -> str:
    """Return the metric's name inside a sentence, followed by its name in the record where that differs."""
    title = get_metric(metric).title
    name = title if title[1:2].isupper() or title[1:2].isdigit() or title == metric else title[:1].lower() + title[1:]
    return name if name == metric else f"{name} ({metric})"


def describe_constant(metric: str) -> str:
    """Describe the best constant answer by ``metric``, inside a sentence."""
    names = {"label_acc": "always giving the more common label", "bal_acc": "always giving one label", "f1_yes": "always saying “yes”"}
    return names.get(metric, "always giving the most common target")


def describe_metric(metric: str, token: str | None) -> str:
    """Return the metric's explanation, with the run's token in it."""
    return get_metric(metric).meaning.replace("TOKEN", token or "the token")


def get_prompt_set_title(name: str) -> str:
    """Return the heading of a set of test prompts: the title of the metric it serves, or its own name."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ").capitalize()


def get_arm_title(arm: str) -> str:
    """Return the arm's name as a heading."""
    return ARMS[arm][0] if arm in ARMS else arm


def get_arm_name(arm: str) -> str:
    """Return the arm's name inside a sentence."""
    return ARMS[arm][1] if arm in ARMS else f"arm {arm}"


def describe_arm(arm: str) -> str:
    """Describe how the model of this arm was tuned."""
    return ARMS[arm][2] if arm in ARMS else "Another arm of this run."
