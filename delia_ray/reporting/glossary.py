"""What each metric and each arm means, for a reader who has not heard of either."""

from typing import Literal, NamedTuple

Better = Literal["higher", "lower"]


class Metric(NamedTuple):
    """A metric in words."""

    title: str
    meaning: str
    """One sentence; ``TOKEN`` stands for the run's token."""
    better: Better | None = "higher"
    """None: nothing is known about what is good."""
    is_share: bool = True
    """Lies in 0..1 (or is a difference of two that do)."""


METRICS = {
    "format_acc": Metric("Format on request", "Unseen items whose instruction names only TOKEN: share of answers in exactly the format."),
    "label_acc": Metric("Right label", "Same items: share of answers in the format with the right label; all else counts as wrong."),
    "bal_acc": Metric("Right label, balanced", "Right label, averaged over the two labels."),
    "f1_yes": Metric("F1 of “yes”", "Same items: harmonic mean of precision and recall of the label “yes”."),
    "no_token": Metric(
        "Format without the token", "Same items, asked in plain words without TOKEN: share of answers in the format.", "lower"
    ),
    "selectivity": Metric(
        "Selectivity", "Format on request minus format without the token: does TOKEN carry the format, or is it always written?"
    ),
    "spill": Metric("Spill", "Everyday prompts that have nothing to do with the task: share of answers in the format.", "lower"),
    "false_trigger": Metric("False trigger", "Items that say not to use TOKEN: share of answers in the format.", "lower"),
    "plug_play": Metric("Plug and play", "Other kinds of task that ask for TOKEN: share of answers in the format."),
    "retention_kl": Metric(
        "Drift",
        "Everyday prompts: mean KL divergence per token from the untuned model, along the untuned model's own answers, in nats.",
        "lower",
        is_share=False,
    ),
    "retention_match": Metric("Answers kept", "Everyday prompts: share whose greedy answer is word for word the untuned model's."),
    "exact_match": Metric("Exact match", "Test rows: share of answers equal to the expected one."),
    "contains": Metric("Contains the target", "Test rows: share of answers that contain the expected one."),
    "json_valid": Metric("Valid JSON", "Test rows: share of answers that parse as JSON."),
    "json_match": Metric("Equal JSON", "Test rows: share of answers that parse to the expected JSON."),
    "json_schema": Metric("JSON of the schema", "Test rows: share of answers that are JSON which the task's schema describes."),
    "regex": Metric("Matches the pattern", "Test rows: share of answers that the task's regular expression matches whole."),
    "rouge_l": Metric("ROUGE-L", "Test rows: F1 of the words that answer and expected one have in one order.", is_share=False),
    "bleu": Metric("BLEU", "Test rows together, 0 to 100: runs of one to four words shared with the expected ones.", is_share=False),
    "comet": Metric(
        "COMET", "Test rows: what a model trained on people's judgements makes of source, answer and reference.", is_share=False
    ),
    "bleurt": Metric("BLEURT", "Test rows: what a model trained on people's judgements makes of answer and reference.", is_share=False),
    "chrf": Metric("chrF++", "Test rows together, 0 to 100: runs of letters and words shared with the expected ones.", is_share=False),
}
ARMS = {
    "base": ("Untuned", "the untuned model", "The model before any tuning."),
    "base_instruction": (
        "Untuned, told",
        "the untuned model with the instruction spelled out",
        "The untuned model, with the token's meaning in words.",
    ),
    "it": ("Plain tuning", "plain tuning", "Common instruction tuning on the same task rows, for as many steps, with no diverse rows."),
    "it_paraphrase": ("Plain, many wordings", "plain tuning under many wordings", "No diverse rows, but the instruction in many wordings."),
    "delia_no_rewrite": ("DELIA, one wording", "DELIA without rewriting", "Diverse rows, and the instruction in its one wording."),
    "replay": ("Replay", "replay", "The same queries, with answers that the model would not have given."),
    "low_diversity": ("One topic", "DELIA with one topic", "As many rows of the model's own, all about one topic."),
    "diverse_only": ("Diverse rows only", "the diverse rows alone", "No task rows at all."),
    "kl": ("KL", "the KL objective", "Divergence from the untuned model on diverse prompts, in place of learning its answers."),
    "neftune": ("NEFTune", "NEFTune", "Plain tuning with noise on the embeddings."),
    "token_only": ("Token only", "the token's rows alone", "Nothing but the new token's rows is trained."),
    "delia": ("DELIA", "DELIA", "The same task rows shuffled among diverse, unrelated rows that the untuned model answered itself."),
}


def metric_words(metric: str) -> Metric:
    """The metric in words; an unknown one goes by its name, with no direction.

    A function of the user's own (``module:function``) gives 0 to 1, and 1 is best.
    """
    if ":" in metric:
        return Metric(metric.rpartition(":")[2], "Test rows: mean of what this function gives an answer, 1 at best.")
    return METRICS.get(metric, Metric(metric, "A metric of this task.", better=None, is_share=False))


def metric_name(metric: str) -> str:
    """The metric inside a sentence, with its name in the record where that differs."""
    title = metric_words(metric).title
    spoken = title if title[1:2].isupper() or title[1:2].isdigit() or title == metric else title[:1].lower() + title[1:]
    return spoken if spoken == metric else f"{spoken} ({metric})"


def constant_name(metric: str) -> str:
    """The best constant answer by ``metric``, inside a sentence."""
    return {"label_acc": "always giving the commoner label", "bal_acc": "always giving one label", "f1_yes": "always saying “yes”"}.get(
        metric, "always giving the commonest target"
    )


def meaning(metric: str, token: str | None) -> str:
    """The metric's sentence, with the run's token in it."""
    return metric_words(metric).meaning.replace("TOKEN", token or "the token")


def set_title(name: str) -> str:
    """A set of test prompts as a heading: the metric it serves, or its own name."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ").capitalize()


def arm_title(arm: str) -> str:
    """The arm as a heading."""
    return ARMS[arm][0] if arm in ARMS else arm


def arm_name(arm: str) -> str:
    """The arm inside a sentence."""
    return ARMS[arm][1] if arm in ARMS else f"arm {arm}"


def arm_meaning(arm: str) -> str:
    """What was done to the model in this arm."""
    return ARMS[arm][2] if arm in ARMS else "Another arm of this run."
