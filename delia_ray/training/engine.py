"""The DeepSpeed engine of a training worker. Only this module, ``deepspeed_settings.py``, ``state.py`` and ``upstream/`` import it."""

from collections.abc import Sequence
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from delia_ray.core.errors import UserError
from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.data.packing import Pack
from delia_ray.training.deepspeed_settings import build_deepspeed_config
from delia_ray.training.kernels.select import resolve_kernels, use_kernels
from delia_ray.training.metrics.mfu import FlopCount
from delia_ray.training.metrics.step_metrics import StepMetrics, StepResult, UpdateNorm
from delia_ray.training.model import Trainable
from delia_ray.training.objective import TokenLoss
from delia_ray.upstream.deepspeed_zero import forget_initial_step, get_numel, unwrap_optimizer


def apply_placement(trainable: Trainable, workers: TrainWorkers) -> None:
    """Enable gradient checkpointing and the kernels that the placement names; neither changes what is learned."""
    if workers.gradient_checkpointing:
        trainable.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    use_kernels(trainable.model, resolve_kernels(workers))


class TrainEngine:
    """Runs forward, backward and optimizer step on this worker's packs of each training step.

    Attributes:
        trained_parameters: name -> parameter, in the same order on every worker.
        packing_mode: how the model keeps the rows of a pack from attending to each other.
        lr_scheduler: linear warmup, then constant.

    Raises:
        UserError: DeepSpeed does not understand ``workers.deepspeed``, or this device cannot train in float16.
    """

    def __init__(self, trainable: Trainable, config: FinetuneConfig, workers: TrainWorkers, dtype: torch.dtype):
        if dtype == torch.float16 and not cast(Any, get_accelerator()).is_fp16_supported():
            raise UserError("finetune.precision: float16 cannot be trained in on the workers' devices; use bfloat16, float32 or auto")
        self._count_flops = FlopCount(trainable.model)
        loss = TokenLoss(trainable, config.objective, resolve_kernels(workers))
        self.packing_mode = loss.packing_mode
        self.trained_parameters: dict[str, nn.Parameter] = {
            name: weight for name, weight in loss.named_parameters() if weight.requires_grad
        }
        num_trained = sum(map(get_numel, self.trained_parameters.values()))
        # On a CPU (offload, or no GPU) torch's fused AdamW does the same as DeepSpeed's own: one pass over memory, on all cores.
        fused = workers.offload != "none" or not torch.cuda.is_available()
        optimizer = torch.optim.AdamW(trainable.parameter_groups(config), fused=fused)
        self.lr_scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, config.warmup_steps)))
        deepspeed_config = build_deepspeed_config(config, workers, dtype)
        # DeepSpeed annotates the scheduler with a private base class of torch's.
        lr_scheduler = cast(Any, self.lr_scheduler)
        self._engine: Any = deepspeed.initialize(model=loss, optimizer=optimizer, lr_scheduler=lr_scheduler, config=deepspeed_config)[0]
        forget_initial_step(self.deepspeed_optimizer)
        self._update_norm = UpdateNorm(self.optimizer, num_trained, dist.get_world_size())

    @property
    def deepspeed_optimizer(self) -> Any:
        """DeepSpeed's optimizer: AdamW, or the ZeRO or mixed-precision wrapper around it."""
        return self._engine.optimizer

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The wrapped AdamW."""
        return unwrap_optimizer(self.deepspeed_optimizer)

    @property
    def device(self) -> torch.device:
        return self._engine.device

    def step(self, packs: Sequence[Pack], supervised_tokens: int) -> StepResult:
        """Run one optimizer step on this worker's ``packs`` and return its metrics over all workers.

        Every token has the same weight whatever its pack or worker: summed losses are divided by the step's count, and multiplied
        by the number of workers because DeepSpeed averages gradients over them.

        Args:
            supervised_tokens: of the whole step, over all workers.
        """
        world, metrics = dist.get_world_size(), StepMetrics(self.device)
        for pack in packs:
            losses_S: Tensor = self._engine(pack)
            self._engine.backward(losses_S.sum() * (world / supervised_tokens))
            metrics.add(pack, losses_S, self._count_flops(pack))
        learning_rate: float = self._engine.get_lr()[0]
        self._engine.step()
        return metrics.reduce(float(self._engine.get_global_grad_norm() or 0.0), self._update_norm.pop_square(), learning_rate)

    def initialize_optimizer(self, dummy_pack: Pack) -> None:
        """Create the optimizer's state, all zero, on every worker, in a step that changes no weight."""
        for group in self.deepspeed_optimizer.param_groups:
            group["lr"] = 0.0
        self._engine.backward(self._engine(dummy_pack).sum() * 0.0)
        self._engine.step()
        self._update_norm.pop_square()
