"""For every model family the exported model has the losses of the trained one."""

from pathlib import Path

import pytest
import torch
from family_table import TOKEN, Family
from peft import PeftModel
from test_adapters import ADAPTS_EXPERTS
from trainings import PARAMETERS, build_rows

from delia_ray.models import load_model, load_tokenizer, save_model, token_ids
from delia_ray.training.config import FinetuneConfig, Sft
from delia_ray.training.data.packing import pack, shared_prefix
from delia_ray.training.export.adapter import explain_no_adapter, write_adapter
from delia_ray.training.model import build_trainable, load_trained, merge_trained, save_trained
from delia_ray.training.objective import TokenLoss, merged_token_losses, trained_token_losses


@pytest.mark.parametrize("kind", PARAMETERS)
def test_the_exported_model_has_the_losses_of_the_trained_one(family: Family, extended: dict[str, Path], tmp_path: Path, kind: str):
    base, data = extended[family.name], build_rows(extended[family.name])
    config = FinetuneConfig(parameters=PARAMETERS[kind], learning_rate=1e-2, precision="float32")
    tokenizer = load_tokenizer(base)
    ids = token_ids(tokenizer, [TOKEN])
    before = merged_token_losses(load_model(base, torch.float32), data)
    trainable = build_trainable(base, ids, config, torch.float32)
    loss = TokenLoss(trainable, Sft())
    assert loss.packing_mode == family.packing_mode
    torch.testing.assert_close(loss(pack(data)).tolist(), before, rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.AdamW(trainable.parameter_groups(config), weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        loss(pack(data)).mean().backward()
        optimizer.step()
    after = loss(pack(data)).tolist()
    assert sum(after) < sum(before) - 0.01 * len(after)
    save_trained(trainable, tmp_path / "trained")
    loaded = load_trained(base, tmp_path / "trained", ids, torch.float32)
    torch.testing.assert_close(trained_token_losses(loaded, data), after, rtol=1e-4, atol=1e-4)
    reason = explain_no_adapter(loaded)
    assert bool(reason) == (kind == "full" or (kind == "lora" and family.name in ADAPTS_EXPERTS))
    if reason is None:
        write_adapter(loaded, ids, tmp_path / "adapter")
        adapted = PeftModel.from_pretrained(load_model(base, torch.float32), tmp_path / "adapter")
        torch.testing.assert_close(merged_token_losses(adapted, data), after, rtol=1e-4, atol=1e-4)
    save_model(merge_trained(base, tmp_path / "trained", ids, torch.float32), tokenizer, tmp_path / "model")
    exported = load_model(tmp_path / "model", torch.float32)
    torch.testing.assert_close(merged_token_losses(exported, data), after, rtol=1e-4, atol=1e-4)
    if kind == "token_only":
        _assert_only_rows_changed(load_model(base, torch.float32), exported, ids)


def _assert_only_rows_changed(base: torch.nn.Module, exported: torch.nn.Module, ids: list[int]) -> None:
    """Assert that only the new tokens' rows differ."""
    tables = ("embed_tokens.weight", "embeddings.weight", "lm_head.weight", "embed_in.weight", "embed_out.weight")
    for (name, old), new in zip(base.state_dict().items(), exported.state_dict().values(), strict=True):
        changed = sorted({int(index[0]) for index in (old != new).nonzero()}) if name.endswith(tables) else (old != new).any().tolist()
        assert changed == (ids if name.endswith(tables) else False), name


def test_rows_of_a_pack_have_the_losses_that_they_have_alone(family: Family, extended: dict[str, Path]):
    data = build_rows(extended[family.name])
    config = FinetuneConfig(parameters=PARAMETERS["lora"], precision="float32")
    trainable = build_trainable(extended[family.name], [], config, torch.float32)
    loss = TokenLoss(trainable, Sft())
    packed, separate = loss(pack(data)), torch.cat([loss(pack([row])) for row in data])
    torch.testing.assert_close(packed, separate, rtol=1e-4, atol=1e-4)
    prefix = shared_prefix(data)
    assert len(prefix) > 3
    torch.testing.assert_close(loss(pack([row.drop_prefix(len(prefix)) for row in data], prefix)), separate, rtol=1e-4, atol=1e-4)
