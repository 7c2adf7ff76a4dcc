"""Bytes of a worker's weights and optimizer states, and of what a step adds, under each of DeepSpeed's ZeRO stages.

Read from DeepSpeed 0.19's optimizers, and measured on one worker (``tests/integration/test_memory.py``). With N trained parameters, W
workers and b bytes of a parameter:

- stage 0: moments 8 N; in half precision also a float32 copy 4 N. A step adds the gradients flattened, or in half precision in float32.
- stages 1 and 2: moments 8 N / W and a float32 copy 4 N / W, in float32 too. Stage 1 keeps all gradients, stage 2 a worker's part of
  them; both reduce them through a bucket. A step holds a worker's part, the same flattened, and in half precision the same in float32.
- stage 3: as stage 2, and a worker holds 1 / W of the weights, gathers those that are used soon, and keeps the bucket for good.

Offloading moves the moments and the float32 copy off the GPU, and at stage 3 the worker's part of the weights.
"""

from dataclasses import dataclass

from delia_ray.placement import TrainWorkers
from delia_ray.training.memory.micro_batch import GradientHandling

_FLOAT32 = 4
_MOMENTS = 2
_BUCKET, _GATHERED = 500_000_000, 1_000_000_000
"""DeepSpeed's defaults of ``reduce_bucket_size`` and ``stage3_max_live_parameters``, in elements."""
_UPDATE_SAMPLE = 16
"""A step copies one in so many of the trained weights, to measure how far they move (``metrics/step_metrics.py``)."""


@dataclass(frozen=True)
class States:
    """The parameters of a model, and how they are trained on how many workers."""

    weight_bytes: int
    """Of all weights, as they are stored on a worker without ZeRO stage 3."""
    trained: int
    """N."""
    itemsize: int
    """b, of trained parameters."""
    workers: TrainWorkers

    @property
    def is_offloaded(self) -> bool:
        """Whether the optimizer's states are elsewhere than where the worker computes."""
        return self.workers.offload == "nvme" or (self.workers.offload == "cpu" and self.workers.num_gpus > 0)

    @property
    def weights(self) -> int:
        """A worker's weights; at stage 3 its part of them."""
        return self.weight_bytes // self.workers.least if self.workers.zero_stage == 3 else self.weight_bytes

    @property
    def gathered(self) -> int:
        """The weights that a worker has gathered at stage 3, at most."""
        if self.workers.zero_stage < 3:
            return 0
        return min(self.weight_bytes, self._read("stage3_max_live_parameters", _GATHERED) * self.itemsize)

    @property
    def copy(self) -> int:
        """The float32 copy of the trained parameters that the optimizer updates."""
        return _FLOAT32 * self._part if self.workers.zero_stage or self.itemsize < _FLOAT32 else 0

    @property
    def moments(self) -> int:
        """AdamW's two averages."""
        return _MOMENTS * _FLOAT32 * self._part

    @property
    def buffers(self) -> int:
        """What stage 3 keeps for gradients throughout: the bucket, and the worker's part of them."""
        return self._bucket + self.itemsize * self._part if self.workers.zero_stage == 3 else 0

    def handle_gradients(self, exist_before: bool) -> GradientHandling:
        """Say what becomes of gradients in a backward pass, the first of its step or a later one."""
        match self.workers.zero_stage:
            case 0 | 1:
                return GradientHandling(True, exist_before, self._bucket)
            case 2:
                return GradientHandling(False, exist_before, self._bucket, self.itemsize * self._part)
            case 3:
                return GradientHandling(False, exist_before)

    @property
    def step(self) -> int:
        """What the optimizer's step holds besides weights, copy and moments."""
        part, half = self._part, self.itemsize < _FLOAT32
        if self.is_offloaded:
            return self.itemsize * part
        sample = _FLOAT32 * part // _UPDATE_SAMPLE
        # torch's AdamW updates all tensors at once on a GPU, and holds the square roots of their second moments; fused, as on a CPU, not.
        roots = _FLOAT32 * part if self.workers.num_gpus else 0
        in_float32 = _FLOAT32 * part if half else 0
        if self.workers.zero_stage == 0:
            return self.itemsize * self.trained + (in_float32 or _FLOAT32 * min(self.trained, _BUCKET)) + sample + roots
        return 2 * self.itemsize * part + in_float32 + sample + roots

    @property
    def _part(self) -> int:
        """Trained parameters whose states a worker holds."""
        return -(-self.trained // self.workers.least) if self.workers.zero_stage else self.trained

    @property
    def _bucket(self) -> int:
        """On a GPU the whole buffer takes memory, on a CPU what is written to it."""
        if self.workers.zero_stage == 0:
            return 0
        elements = self._read("reduce_bucket_size", _BUCKET)
        return self.itemsize * (elements if self.workers.num_gpus else min(elements, self.trained))

    def _read(self, key: str, default: int) -> int:
        section = self.workers.deepspeed.get("zero_optimization", {})
        return int(section.get(key, default))
