"""Reasoning blocks in model outputs: their delimiters, and answers without them."""

import re

REASONING_BLOCKS = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
)
"""Opening and closing delimiters: Qwen3, DeepSeek R1 and most others; Seed-OSS; Mistral; Gemma 4."""
REASONING_SWITCHES = ("enable_thinking", "thinking")
"""Arguments of chat templates that turn reasoning on."""
_BLOCK = re.compile(
    "|".join(rf"\s*{re.escape(opening)}.*?(?:{re.escape(closing)}\s*|$)" for opening, closing in REASONING_BLOCKS), re.DOTALL
)


def strip_reasoning(text: str) -> str:
    """Remove a leading reasoning block from ``text``; return an empty string if the block is not closed."""
    block = _BLOCK.match(text)
    return text if block is None else text[block.end() :]


def has_reasoning_block(text: str) -> bool:
    """Whether ``text`` contains the opening and closing delimiters of a reasoning block."""
    return any(opening in text and closing in text for opening, closing in REASONING_BLOCKS)


def has_open_reasoning_block(text: str) -> bool:
    """Whether ``text`` opens a reasoning block without closing it."""
    return any(text.count(opening) > text.count(closing) for opening, closing in REASONING_BLOCKS)
