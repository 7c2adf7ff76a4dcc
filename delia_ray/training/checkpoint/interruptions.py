"""What a training is interrupted for: the driver asks for a stop, or a node is about to be taken away."""

from enum import Enum
from pathlib import Path

from ray import train

from delia_ray.core.storage.watch import watch
from delia_ray.training.checkpoint.agreement import is_true_on_any_worker


class Interruption(Enum):
    """What the workers do after a step, besides training on."""

    NONE = "none"
    SAVE = "save"
    """A node is about to be taken away: Ray starts the workers again when it is gone, and they resume."""
    STOP = "stop"
    """The driver asked for it."""


class Interruptions:
    """Asked by all workers after each step; all get the same answer."""

    def __init__(self, stop: Path):
        """``stop`` is the file with which the driver asks for a stop."""
        self._asks_to_stop = watch(stop)
        self._answered: object = None

    def ask(self) -> Interruption:
        """Return what is to be done now. A notice that a node will be taken away is answered once."""
        notice = train.get_preemption_info()  # a barrier, so that no worker may leave it out
        if is_true_on_any_worker(self._asks_to_stop()):
            return Interruption.STOP
        if notice is None or notice == self._answered:
            return Interruption.NONE
        self._answered = notice
        return Interruption.SAVE
