"""A run that starts neither Ray nor an engine and writes nothing: its steps open what is finished, and refuse to build the rest."""

from functools import cached_property
from typing import Any, NoReturn

from delia_ray.core.building import UnfinishedError
from delia_ray.core.layout import INSTRUCTED
from delia_ray.core.lineage import read_manifests
from delia_ray.models import ModelFolder, choose_precision, find_model
from delia_ray.pipeline.run import Run


class PlannedRun(Run):
    """A run that is only looked at; what builds is called within ``building_nothing``."""

    @cached_property
    def local_model(self) -> ModelFolder:
        """The folder of the model to tune. Its weights are hashed only where something is finished that was made from them."""
        if any(name != INSTRUCTED for name in read_manifests(self.layout.root)):
            return super().local_model
        return find_model(self.settings.model, self.settings.chat_template_kwargs)

    @cached_property
    def model(self) -> ModelFolder:
        """The model to tune; it is not shared with other nodes."""
        return self.local_model

    @property
    def expected_precision(self) -> str:
        """The precision of the run; where it is still to be chosen, what this machine would choose."""
        try:
            return self.precision
        except UnfinishedError:
            return "bfloat16" if self.uses_gpus else choose_precision()

    def _choose_precision(self) -> NoReturn:
        raise UnfinishedError(str(self.layout.precision))

    def connect(self, demand: Any = None) -> NoReturn:
        raise UnfinishedError("a cluster")

    def _connect_without_endpoint(self, demand: Any = None) -> NoReturn:
        raise UnfinishedError("a cluster")

    def endpoint(self, models: Any, max_model_len: int | None = None, base: Any = None) -> NoReturn:
        raise UnfinishedError("an endpoint")

    def run_on_worker(self, function: Any, memory_bytes: int, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnfinishedError("a worker")
