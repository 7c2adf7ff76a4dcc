"""One DeepSpeed engine around the loss. The only importer of DeepSpeed, with ``deepspeed_settings.py`` and ``state.py``."""

from collections.abc import Sequence
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from delia_ray.errors import UserError
from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.deepspeed_settings import deepspeed_settings
from delia_ray.training.flops import FlopCount
from delia_ray.training.ledger import Ledger, StepResult, UpdateNorm
from delia_ray.training.model import Trainable
from delia_ray.training.objective import TokenLoss
from delia_ray.training.packing import Pack


class TrainEngine:
    """Forward, backward and update on this worker's share of each step.

    Attributes:
        named: name -> trained parameter, in one order on every worker.
        separation: how the rows of a pack are kept apart.
        schedule: the learning rates.

    Raises:
        UserError: DeepSpeed does not understand ``workers.deepspeed``, or float16 is not for this device.
    """

    def __init__(self, trainable: Trainable, config: FinetuneConfig, workers: TrainWorkers, dtype: torch.dtype):
        if dtype == torch.float16 and not cast(Any, get_accelerator()).is_fp16_supported():
            raise UserError("finetune.precision: float16 cannot be trained in on the workers' devices; use bfloat16, float32 or auto")
        self._flops = FlopCount(trainable.model)
        root = TokenLoss(trainable, config.objective)
        self.separation = root.separation
        self.named: dict[str, nn.Parameter] = {name: weight for name, weight in root.named_parameters() if weight.requires_grad}
        trained = sum(weight.numel() for weight in self.named.values())
        # Off the GPU, torch's fused AdamW is what DeepSpeed's own is: one pass over memory, by all cores.
        fused = workers.offload != "none" or not torch.cuda.is_available()
        optimizer = torch.optim.AdamW(trainable.parameter_groups(config), fused=fused)
        self.schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, config.warmup_steps)))
        settings = deepspeed_settings(config, workers, dtype)
        # DeepSpeed's annotation of a schedule names a private base class of torch's.
        schedule = cast(Any, self.schedule)
        self._engine: Any = deepspeed.initialize(model=root, optimizer=optimizer, lr_scheduler=schedule, config=settings)[0]
        self._updates = UpdateNorm(self.optimizer, trained, dist.get_world_size())

    @property
    def wrapped(self) -> Any:
        """DeepSpeed's optimiser: AdamW, or what ZeRO or mixed precision wraps around it."""
        return self._engine.optimizer

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The AdamW inside."""
        return getattr(self.wrapped, "optimizer", self.wrapped)

    @property
    def device(self) -> torch.device:
        return self._engine.device

    def step(self, packs: Sequence[Pack], learnt_tokens: int) -> StepResult:
        """One update from this worker's ``packs``; ``learnt_tokens`` counts the whole step over all workers.

        Every token weighs the same whatever its pack or worker: sums are divided by the step's count, and multiplied by
        the number of workers because DeepSpeed averages over them.
        """
        world, ledger = dist.get_world_size(), Ledger(self.device)
        for pack in packs:
            costs_S: Tensor = self._engine(pack)
            self._engine.backward(costs_S.sum() * (world / learnt_tokens))
            ledger.add(pack, costs_S, self._flops(pack))
        rate: float = self._engine.get_lr()[0]
        self._engine.step()
        return ledger.close(float(self._engine.get_global_grad_norm() or 0.0), self._updates.take(), rate)

    def step_in_place(self, pack: Pack) -> None:
        """Step without moving: afterwards the optimiser has its state, all zero, on every worker."""
        for group in self.wrapped.param_groups:
            group["lr"] = 0.0
        self._engine.backward(self._engine(pack).sum() * 0.0)
        self._engine.step()
        self._updates.take()

    def gathered(self, parameters: Sequence[nn.Parameter], *, modifier_rank: int | None = None) -> Any:
        """Context in which ZeRO-3's partitioned ``parameters`` are whole; free of effect below stage 3."""
        enabled = self._engine.zero_optimization_stage() == 3
        return deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=modifier_rank, enabled=enabled)
