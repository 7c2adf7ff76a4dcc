"""The ``learned_metrics`` section of a config: paths of the weights of COMET and BLEURT."""

from pathlib import Path

from delia_ray.core.config import Config


class Comet(Config):
    """COMET, such as wmt22-comet-da: a model trained on human ratings scores source, output and reference (Rei et al. 2022)."""

    checkpoint: Path
    """``checkpoints/model.ckpt`` of a COMET model, with its ``hparams.yaml`` in the folder above."""
    encoder: Path | None = None
    """Folder with the config and tokenizer of COMET's encoder, such as xlm-roberta-large. null: from the Hugging Face cache."""


class Bleurt(Config):
    """BLEURT, such as BLEURT-20: a model trained on human ratings scores output and reference (Sellam et al. 2020)."""

    weights: Path
    """Folder with a BLEURT model for PyTorch."""


class LearnedMetrics(Config):
    """Learned metrics; ``task.metric`` names those to compute."""

    comet: Comet | None = None
    bleurt: Bleurt | None = None
