"""Functions that run in a learned metric's environment. delia_ray is not installed there: the module is pickled and imports none of it."""

from collections.abc import Sequence

MetricSample = tuple[str, str, str]
"""Source, output, reference."""


def score_with_comet(samples: Sequence[MetricSample], checkpoint: str, encoder: str | None, batch_rows: int, gpus: int) -> list[float]:
    """Compute COMET's score of each sample."""
    import os  # noqa: PLC0415  these packages are in the metric's environment
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
            encoder_name = hparams["pretrained_model"]
            raise FileNotFoundError(
                f"the encoder {encoder_name} is not on this machine, name its folder in learned_metrics.comet.encoder"
            ) from None
        with open(os.path.join(folder, "hparams.yaml"), "w") as stream:
            yaml.safe_dump(hparams, stream)
        os.mkdir(os.path.join(folder, "checkpoints"))
        link = os.path.join(folder, "checkpoints", "model.ckpt")
        os.symlink(checkpoint, link)
        model = load_from_checkpoint(link, reload_hparams=True, local_files_only=True)
    inputs = [{"src": source, "mt": output, "ref": reference} for source, output, reference in samples]
    prediction = model.predict(inputs, batch_size=batch_rows, gpus=gpus, num_workers=0, progress_bar=False)
    return [float(score) for score in prediction.scores]


def score_with_bleurt(samples: Sequence[MetricSample], weights: str, batch_rows: int, gpus: int) -> list[float]:
    """Compute BLEURT's score of each sample."""
    import torch  # noqa: PLC0415  these packages are in the metric's environment
    from bleurt_pytorch import BleurtForSequenceClassification, BleurtTokenizer  # noqa: PLC0415  # pyright: ignore

    device = "cuda" if gpus else "cpu"
    tokenizer = BleurtTokenizer.from_pretrained(weights, local_files_only=True)
    model = BleurtForSequenceClassification.from_pretrained(weights, local_files_only=True).eval().to(device)
    longest = model.config.max_position_embeddings
    scores: list[float] = []
    for first in range(0, len(samples), batch_rows):
        _, outputs, references = zip(*samples[first : first + batch_rows], strict=True)
        batch = tokenizer(list(references), list(outputs), padding="longest", truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            scores += model(**batch.to(device)).logits.flatten().tolist()
    return scores
