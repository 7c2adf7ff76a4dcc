"""One DeepSpeed engine around the loss. The only importer of DeepSpeed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from delia_ray.training.config import FinetuneConfig
from delia_ray.training.model import Trainable
from delia_ray.training.objective import AnswerLoss
from delia_ray.training.packing import GROUPS, Pack


class StepResult:
    """What one optimiser step saw, summed over all workers."""

    def __init__(self, sums_G: Tensor, counts_G: Tensor, gradient_norm: float, learning_rate: float):
        self.group_losses = {
            group: (sums_G[index] / counts_G[index]).item() if counts_G[index] else None for index, group in enumerate(GROUPS)
        }
        """Mean token loss of each group in nats; null where a step has none."""
        self.loss = (sums_G.sum() / counts_G.sum()).item()
        self.learnt_tokens = int(counts_G.sum().item())
        self.gradient_norm = gradient_norm
        """2-norm before clipping."""
        self.learning_rate = learning_rate


class TrainEngine:
    """Forward, backward and update on this worker's share of each step."""

    def __init__(self, trainable: Trainable, config: FinetuneConfig, zero_stage: int, bf16: bool):
        module = nn.ModuleDict({"objective": AnswerLoss(trainable.model)})
        if trainable.rows is not None:
            module["rows"] = trainable.rows
        optimizer = torch.optim.AdamW(trainable.parameter_groups(config))
        schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, config.warmup_steps)))
        self._engine: Any = deepspeed.initialize(
            model=_Root(module),
            optimizer=optimizer,
            lr_scheduler=cast(Any, schedule),  # DeepSpeed's annotation names a private base class of torch's
            config=_deepspeed_config(config, zero_stage, bf16),
        )[0]

    def step(self, packs: Sequence[Pack], learnt_tokens: int) -> StepResult:
        """One update from this worker's ``packs``; ``learnt_tokens`` counts the whole step over all workers.

        Every token weighs the same whatever its pack or worker: sums are divided by the step's count, and multiplied by
        the number of workers because DeepSpeed averages over them.
        """
        world = dist.get_world_size()
        sums_G, counts_G = torch.zeros(len(GROUPS)), torch.zeros(len(GROUPS))
        for pack in packs:
            losses_S: Tensor = self._engine(pack)
            self._engine.backward(losses_S.sum() * (world / learnt_tokens))
            groups_S = torch.from_numpy(pack.groups_S)
            sums_G.index_add_(0, groups_S, losses_S.detach().float().cpu())
            counts_G += torch.bincount(groups_S, minlength=len(GROUPS))
        rate: float = self._engine.get_lr()[0]
        self._engine.step()
        totals = torch.stack([sums_G, counts_G]).to(self._engine.device)
        dist.all_reduce(totals)
        return StepResult(*totals.cpu(), gradient_norm=float(self._engine.get_global_grad_norm() or 0.0), learning_rate=rate)

    def save(self, folder: Path, step: int) -> None:
        """Write parameters, optimiser and schedule so that training can go on after ``step`` steps. All workers call it."""
        self._engine.save_checkpoint(str(folder), tag="state", client_state={"step": step}, exclude_frozen_parameters=True)

    def load(self, folder: Path) -> int:
        """Restore what ``save`` wrote and return its step."""
        _, state = self._engine.load_checkpoint(str(folder), tag="state", load_module_strict=False)
        return int(state["step"])

    def gathered(self, parameters: Sequence[nn.Parameter]) -> Any:
        """Context in which ZeRO-3's partitioned ``parameters`` are whole; free of effect below stage 3."""
        return deepspeed.zero.GatheredParameters(list(parameters), enabled=self._engine.zero_optimization_stage() == 3)


class _Root(nn.Module):
    """Gives DeepSpeed one module whose forward is the loss and whose parameters include the new rows."""

    def __init__(self, parts: nn.ModuleDict):
        super().__init__()
        self.parts = parts

    def forward(self, pack: Pack) -> Tensor:
        return self.parts["objective"](pack)


def _deepspeed_config(config: FinetuneConfig, zero_stage: int, bf16: bool) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Workers may hold different numbers of packs, so gradients are reduced once, in step().
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.gradient_clip,
        "zero_optimization": {"stage": zero_stage, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": bf16},
        "wall_clock_breakdown": False,
    }
