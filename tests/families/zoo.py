"""Builds a tiny random model of each family, with its tokenizer and chat template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from family_table import SIZE, TEXTS, Family
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast


def build_model(family: Family, folder: Path) -> Path:
    """Build and save the model of a family; return its folder."""
    tokenizer = build_family_tokenizer(family)
    ids = {name: None if token is None else tokenizer.convert_tokens_to_ids(token) for name, token in
           (("bos_token_id", family.bos), ("eos_token_id", family.eos), ("pad_token_id", family.pad))}  # fmt: skip
    config_type: Callable[..., Any] = getattr(transformers, f"{family.model}Config")
    # More rows than tokens, as many models have.
    config = config_type(**{**SIZE, "vocab_size": len(tokenizer) + 5, **ids, **family.arguments})
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    stops = [tokenizer.convert_tokens_to_ids(token) for token in family.declared_stops or (family.eos,)]
    model.generation_config = GenerationConfig(**{**ids, "eos_token_id": stops})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_family_tokenizer(family: Family) -> Any:
    """Build the tokenizer of a family, with a vocabulary of some hundred pieces."""
    core = Tokenizer(models.BPE(unk_token="<unk>" if family.words != "bytes" else None, byte_fallback=family.words != "bytes"))
    if family.words == "bytes":
        splits = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(splits), "isolated"), byte_level])
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        if family.words == "pieces":
            core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
            core.decoder = decoders.Sequence(
                [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
            )
        else:
            core.normalizer = normalizers.Replace(" ", "▁")
            core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet = [*"▁\n", *map(chr, range(33, 127))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=list(family.special), initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(TEXTS, trainer)
    if family.words != "bytes":
        core.add_tokens([AddedToken(f"<0x{byte:02X}>", normalized=False) for byte in (0, 1, 9)])
    core.add_special_tokens([AddedToken(token, rstrip=family.strips, normalized=False, special=True) for token in family.special])
    if family.prepends:
        assert family.bos is not None, "a BOS token is required to prepend it"
        begin = [(family.bos, core.token_to_id(family.bos))]
        core.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", pair=f"{family.bos} $A {family.bos} $B", special_tokens=begin
        )
    named_tokens = {
        name: token for name, token in (("bos_token", family.bos), ("eos_token", family.eos), ("pad_token", family.pad)) if token
    }
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=core, chat_template=family.template, **named_tokens)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.added])
    special = [AddedToken(token, rstrip=family.strips, normalized=False, special=True) for token in family.special]
    tokenizer.add_tokens(special, special_tokens=True)
    return tokenizer
