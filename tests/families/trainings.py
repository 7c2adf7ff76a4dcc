"""What is trained, and rows to train it on."""

from pathlib import Path

from family_table import TOKEN
from test_chat import ANSWERS, example

from delia_ray.models import load_tokenizer, token_ids
from delia_ray.training.config import Full, Lora, Parameters, TokenOnly
from delia_ray.training.data.tokens import TokenizedRow, tokenize

PARAMETERS: dict[str, Parameters] = {
    "lora": Lora(rank=4, dropout=0.0),
    "full": Full(kind="full"),
    "token_only": TokenOnly(kind="token_only"),
}


def build_rows(folder: Path) -> list[TokenizedRow]:
    """Tokenize rows with the new token in the prompt, one also with it in the answer; all are longer than the sliding windows."""
    tokenizer = load_tokenizer(folder)
    examples = [example(answer) for answer in [*ANSWERS, f"It says {TOKEN} twice, {TOKEN}."]]
    # Answers usually contain no special tokens; here the new token is trained as an output, too.
    return tokenize(tokenizer, examples, "answer", token_ids(tokenizer, [TOKEN]))
