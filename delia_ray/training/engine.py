"""One DeepSpeed engine around the loss. The only importer of DeepSpeed, with ``state.py``."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from delia_ray.errors import UserError
from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig
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
        settings = _Read(deepspeed_config(config, workers, dtype))
        self._engine = _initialize(root, optimizer, self.schedule, settings)
        if unread := sorted(set(workers.deepspeed) - settings.read):
            raise UserError(f"placement.finetune.deepspeed: DeepSpeed knows no {', '.join(unread)}; correct or remove it")
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


def _initialize(root: nn.Module, optimizer: torch.optim.Optimizer, schedule: LambdaLR, settings: "_Read") -> Any:
    try:
        # DeepSpeed's annotation of a schedule names a private base class of torch's.
        return deepspeed.initialize(model=root, optimizer=optimizer, lr_scheduler=cast(Any, schedule), config=settings)[0]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"placement.finetune.deepspeed: {error.title}: {place} ({first['input']}): {first['msg']}") from None


class _Read(dict[str, Any]):
    """A configuration that remembers which of its keys were read: DeepSpeed passes over one that it does not know.

    Attributes:
        read: those keys. A copy adds to the same set.
    """

    def __init__(self, items: Mapping[str, Any]):
        super().__init__(items)
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)


def deepspeed_config(config: FinetuneConfig, workers: TrainWorkers, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's own dictionary: what the request and the placement say, and ``placement.finetune.deepspeed`` over it."""
    zero: dict[str, Any] = {"stage": workers.zero_stage, "overlap_comm": False}
    if workers.offload != "none":
        target = {"device": workers.offload, **({"nvme_path": str(workers.nvme_path)} if workers.offload == "nvme" else {})}
        zero["offload_optimizer"] = target
        if workers.zero_stage == 3:
            zero["offload_param"] = target
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Workers may hold different numbers of packs, so gradients are reduced once, in step().
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.gradient_clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "fp16": {"enabled": dtype == torch.float16},
        "wall_clock_breakdown": False,
    }
    given = dict(workers.deepspeed)
    zero.update(given.pop("zero_optimization", {}))
    return {**ours, **given}
