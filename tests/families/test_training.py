"""Whatever the family, the model that is exported is the one that was trained."""

from pathlib import Path

import pytest
import torch
from family_table import TOKEN, Family
from test_chat import ANSWERS, example

from delia_ray.models import load_model, load_tokenizer, save_whole, token_ids
from delia_ray.training.config import FinetuneConfig, Full, Lora, Parameters, Sft, TokenOnly
from delia_ray.training.model import build_trainable, load_trained, merge_trained, save_trained
from delia_ray.training.objective import TokenLoss, merged_costs, trained_costs
from delia_ray.training.packing import pack, shared_prefix
from delia_ray.training.tokens import TokenisedRow, tokenise

PARAMETERS: dict[str, Parameters] = {
    "lora": Lora(rank=4, dropout=0.0),
    "full": Full(kind="full"),
    "token_only": TokenOnly(kind="token_only"),
}


def rows(folder: Path) -> list[TokenisedRow]:
    """Rows that read the token, and of which one writes it; longer than the windows of those that have one."""
    tokenizer = load_tokenizer(folder)
    examples = [example(answer) for answer in [*ANSWERS, f"It says {TOKEN} twice, {TOKEN}."]]
    # A template of its own kind keeps its special tokens out of answers; here the token has to be learnt as an output, too.
    return tokenise(tokenizer, examples, "answer", token_ids(tokenizer, [TOKEN]))


@pytest.mark.parametrize("kind", PARAMETERS)
def test_the_exported_model_costs_what_the_trained_one_costs(family: Family, starts: dict[str, Path], tmp_path: Path, kind: str):
    start, given = starts[family.name], rows(starts[family.name])
    config = FinetuneConfig(parameters=PARAMETERS[kind], learning_rate=1e-2, precision="float32")
    tokenizer = load_tokenizer(start)
    ids = token_ids(tokenizer, [TOKEN])
    before = merged_costs(load_model(start, torch.float32), given)
    trainable = build_trainable(start, ids, config, torch.float32)
    loss = TokenLoss(trainable, Sft())
    assert loss.separation == family.separation
    torch.testing.assert_close(loss(pack(given)).tolist(), before, rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.AdamW(trainable.parameter_groups(config), weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        loss(pack(given)).mean().backward()
        optimizer.step()
    after = loss(pack(given)).tolist()
    assert sum(after) < sum(before) - 0.01 * len(after)
    save_trained(trainable, tmp_path / "trained")
    torch.testing.assert_close(
        trained_costs(load_trained(start, tmp_path / "trained", ids, torch.float32), given), after, rtol=1e-4, atol=1e-4
    )
    save_whole(merge_trained(start, tmp_path / "trained", ids, torch.float32), tokenizer, tmp_path / "model")
    exported = load_model(tmp_path / "model", torch.float32)
    torch.testing.assert_close(merged_costs(exported, given), after, rtol=1e-4, atol=1e-4)
    if kind == "token_only":
        _only_moved(load_model(start, torch.float32), exported, ids)


def _only_moved(start: torch.nn.Module, exported: torch.nn.Module, ids: list[int]) -> None:
    """Of all weights only the new token's rows differ."""
    tables = ("embed_tokens.weight", "embeddings.weight", "lm_head.weight", "embed_in.weight", "embed_out.weight")
    for (name, old), new in zip(start.state_dict().items(), exported.state_dict().values(), strict=True):
        changed = sorted({int(place[0]) for place in (old != new).nonzero()}) if name.endswith(tables) else (old != new).any().tolist()
        assert changed == (ids if name.endswith(tables) else False), name


def test_rows_of_a_pack_cost_what_they_cost_alone(family: Family, starts: dict[str, Path]):
    given = rows(starts[family.name])
    config = FinetuneConfig(parameters=PARAMETERS["lora"], precision="float32")
    trainable = build_trainable(starts[family.name], [], config, torch.float32)
    loss = TokenLoss(trainable, Sft())
    together, alone = loss(pack(given)), torch.cat([loss(pack([row])) for row in given])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    prefix = shared_prefix(given)
    assert len(prefix) > 3
    torch.testing.assert_close(loss(pack([row.after(len(prefix)) for row in given], prefix)), alone, rtol=1e-4, atol=1e-4)
