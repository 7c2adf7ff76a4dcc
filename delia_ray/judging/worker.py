"""What runs in a judge's own environment, where this package is not installed: it is sent there whole, and imports nothing of ours."""

from collections.abc import Sequence

Judged = tuple[str, str, str]
"""Source, output, reference."""


def judge_with_comet(rows: Sequence[Judged], checkpoint: str, encoder: str | None, batch_rows: int, gpus: int) -> list[float]:
    """COMET's score of each row."""
    import os  # noqa: PLC0415  these lines run elsewhere
    import tempfile  # noqa: PLC0415

    import yaml  # noqa: PLC0415
    from comet import load_from_checkpoint  # noqa: PLC0415  # pyright: ignore
    from transformers import AutoConfig  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(os.path.dirname(checkpoint), "..", "hparams.yaml")) as stream:
            hparams = yaml.safe_load(stream)
        if encoder is not None:
            hparams["pretrained_model"] = encoder
        try:
            AutoConfig.from_pretrained(hparams["pretrained_model"], local_files_only=True)
        except OSError:
            wanted = hparams["pretrained_model"]
            raise FileNotFoundError(f"the encoder {wanted} is not on this machine, name its folder in judges.comet.encoder") from None
        with open(os.path.join(folder, "hparams.yaml"), "w") as stream:
            yaml.safe_dump(hparams, stream)
        os.mkdir(os.path.join(folder, "checkpoints"))
        link = os.path.join(folder, "checkpoints", "model.ckpt")
        os.symlink(checkpoint, link)
        model = load_from_checkpoint(link, reload_hparams=True, local_files_only=True)
    asked = [{"src": source, "mt": output, "ref": reference} for source, output, reference in rows]
    found = model.predict(asked, batch_size=batch_rows, gpus=gpus, num_workers=0, progress_bar=False)
    return [float(score) for score in found.scores]


def judge_with_bleurt(rows: Sequence[Judged], weights: str, batch_rows: int, gpus: int) -> list[float]:
    """BLEURT's score of each row."""
    import torch  # noqa: PLC0415  these lines run elsewhere
    from bleurt_pytorch import BleurtForSequenceClassification, BleurtTokenizer  # noqa: PLC0415  # pyright: ignore

    device = "cuda" if gpus else "cpu"
    tokenizer = BleurtTokenizer.from_pretrained(weights, local_files_only=True)
    model = BleurtForSequenceClassification.from_pretrained(weights, local_files_only=True).eval().to(device)
    longest = model.config.max_position_embeddings
    scores: list[float] = []
    for first in range(0, len(rows), batch_rows):
        _, outputs, references = zip(*rows[first : first + batch_rows], strict=True)
        read = tokenizer(list(references), list(outputs), padding="longest", truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            scores += model(**read.to(device)).logits.flatten().tolist()
    return scores
