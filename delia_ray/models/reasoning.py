"""Blocks of reasoning: how models write them, and an answer without one."""

import re

BLOCKS = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
)
"""What opens and what closes one: Qwen3, DeepSeek R1 and most others; Seed-OSS; Mistral; Gemma 4."""
SWITCHES = ("enable_thinking", "thinking")
"""Arguments of chat templates that ask for it."""
_BLOCK = re.compile("|".join(rf"\s*{re.escape(opened)}.*?(?:{re.escape(closed)}\s*|$)" for opened, closed in BLOCKS), re.DOTALL)


def without_reasoning(text: str) -> str:
    """``text`` without the block of reasoning that a model may have opened it with; nothing, where the block never ends."""
    block = _BLOCK.match(text)
    return text if block is None else text[block.end() :]


def holds_block(text: str) -> bool:
    """Whether a whole block stands in ``text``."""
    return any(opened in text and closed in text for opened, closed in BLOCKS)


def leaves_open(text: str) -> bool:
    """Whether a block is opened in ``text`` and not closed."""
    return any(text.count(opened) > text.count(closed) for opened, closed in BLOCKS)
