"""Make tiny checkpoints of both learned metrics, with random weights, in their Python environment: make_tiny.py FOLDER"""

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
import yaml
from bleurt_pytorch import BleurtConfig, BleurtForSequenceClassification, BleurtTokenizer
from comet.models import RegressionMetric
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import XLMRobertaConfig, XLMRobertaTokenizerFast

WORDS = "the a dog cat is was here there hundur kisa er hér þar . ,".split()
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def main(folder: Path) -> None:
    torch.manual_seed(0)
    _make_comet(folder / "encoder", folder / "comet")
    _make_bleurt(folder / "bleurt")


def _make_comet(encoder: Path, out: Path) -> None:
    vocabulary = [(word, -float(index)) for index, word in enumerate([*SPECIAL, *(f"▁{word}" for word in WORDS)])]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=SPECIAL.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    ends = [("<s>", SPECIAL.index("<s>")), ("</s>", SPECIAL.index("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends)
    XLMRobertaTokenizerFast(tokenizer_object=tokenizer).save_pretrained(encoder)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    XLMRobertaConfig(vocab_size=64, max_position_embeddings=64, **size).save_pretrained(encoder)
    model = RegressionMetric(
        encoder_model="XLM-RoBERTa", pretrained_model=str(encoder), hidden_sizes=[8], layer_transformation="softmax",
        load_pretrained_weights=False, local_files_only=True,
    )  # fmt: skip
    trainer = pl.Trainer(max_epochs=0, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(out / "checkpoints" / "model.ckpt")
    hparams = {**model.hparams, "pretrained_model": "nobody/encoder-that-is-not-here", "class_identifier": "regression_metric"}
    (out / "hparams.yaml").write_text(yaml.safe_dump(hparams))


def _make_bleurt(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BleurtTokenizer(str(out / "vocab.txt")).save_pretrained(out)
    config = BleurtConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    BleurtForSequenceClassification(config).save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
