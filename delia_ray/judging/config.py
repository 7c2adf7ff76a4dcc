"""Which learned metrics there are, and where their weights lie."""

from pathlib import Path

from delia_ray.config import Config


class Comet(Config):
    """COMET, such as wmt22-comet-da: a model trained on human scores judges source, output and reference (Rei et al. 2022)."""

    checkpoint: Path
    """``checkpoints/model.ckpt`` of a COMET model, with its ``hparams.yaml`` in the folder above."""
    encoder: Path | None = None
    """Folder with configuration and tokenizer of the encoder that it names, such as xlm-roberta-large. null: from the hub's cache."""


class Bleurt(Config):
    """BLEURT, such as BLEURT-20: a model trained on human scores judges output and reference (Sellam et al. 2020)."""

    weights: Path
    """Folder with a BLEURT model for PyTorch."""


class Judges(Config):
    """Learned metrics, each to be named in ``task.metric``."""

    comet: Comet | None = None
    bleurt: Bleurt | None = None
