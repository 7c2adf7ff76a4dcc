"""The resources of a run: settings, folder, precision, cluster, and at most one endpoint."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.layout import RunLayout
from delia_ray.core.progress import Progress
from delia_ray.models import resolve_run_precision
from delia_ray.placement import Engine, Placement
from delia_ray.ray_runtime.cluster import connect
from delia_ray.serving.endpoint import open_endpoint
from delia_ray.settings import Settings


@dataclass
class RunContext:
    """The resources of one run; a context manager that closes the run's endpoint."""

    settings: Settings
    progress: Progress
    provenance: Provenance
    _stack: ExitStack = field(default_factory=ExitStack)
    _url: str = ""
    _endpoint_key: tuple[int | str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_endpoint()

    @property
    def placement(self) -> Placement:
        return self.settings.placement

    @cached_property
    def precision(self) -> str:
        """The precision in which every model of the run is trained, stored and served; decided once and kept in the run's folder."""
        placement, precision = self.placement, self.settings.finetune.precision
        on_gpus = any(stage.num_gpus for stage in (placement.finetune, placement.synthesize, placement.serve))
        return resolve_run_precision(self.layout.precision, placement.engine.dtype if precision == "auto" else precision, on_gpus=on_gpus)

    @property
    def engine(self) -> Engine:
        """The engines' settings with the run's precision in place of ``auto``."""
        engine = self.placement.engine
        return engine.model_copy(update={"dtype": self.precision}) if engine.dtype == "auto" else engine

    @property
    def resolved_placement(self) -> Placement:
        """``placement`` with the run's precision in place of ``auto``."""
        return self.placement.model_copy(update={"engine": self.engine})

    @cached_property
    def layout(self) -> RunLayout:
        """The run's paths; absolute, since workers have working folders of their own."""
        return RunLayout(self.settings.run.path.resolve())

    def path(self, role: str) -> Path:
        """The path of the artifact of ``role``."""
        return self.layout.artifact(role)

    def _connect(self) -> None:
        connect(self.placement.cluster)

    def _connect_without_endpoint(self) -> None:
        """Connect, and close the endpoint, whose idle engines would keep memory and GPUs."""
        self._close_endpoint()
        self._connect()

    def endpoint(self, models: dict[str, Artifact], max_model_len: int | None = None) -> str:
        """Open an endpoint over ``models`` unless it is open, and return its URL. It closes before another opens, before training, and
        with the run."""
        length = max_model_len or self.settings.max_model_len
        key = (length, *models)
        if self._endpoint_key != key:
            self._close_endpoint()
            self._connect()
            endpoint = open_endpoint(models, self.placement.serve, self.engine, length)
            self._url, self._endpoint_key = self._stack.enter_context(endpoint), key
        return self._url

    def _close_endpoint(self) -> None:
        self._stack.close()
        self._endpoint_key = ()
