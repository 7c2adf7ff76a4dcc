"""The resources of a run: settings, folder, precision, cluster, and at most one endpoint."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.layout import RunLayout
from delia_ray.core.mirrored_run import pull_manifests
from delia_ray.core.progress import Progress, ProgressLine
from delia_ray.models import choose_precision, resolve_run_precision
from delia_ray.placement import Access, Engine, Placement, names_cluster
from delia_ray.ray_runtime.capacity import Demand, demand_of_one, demand_of_replicas, has_free, wait_for_room
from delia_ray.ray_runtime.cluster import connect as connect_to
from delia_ray.ray_runtime.shared_folder import check_shared
from delia_ray.ray_runtime.stages import meter
from delia_ray.ray_runtime.tasks import run_on_worker
from delia_ray.serving.applications import name_application
from delia_ray.serving.endpoint import LOOPBACK, close_leftover, open_endpoint
from delia_ray.serving.engine_specs import assign_engines
from delia_ray.serving.options import EndpointOptions
from delia_ray.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class RunContext:
    """The resources of one run; a context manager that closes the run's endpoint."""

    settings: Settings
    progress: Progress
    provenance: Provenance
    _stack: ExitStack = field(default_factory=ExitStack)
    _url: str = ""
    _endpoint_key: tuple[int | str, ...] = ()
    _is_root_checked: bool = False

    def __post_init__(self) -> None:
        self.progress = meter(self.progress, self.settings.run.name)

    def __enter__(self) -> Self:
        pull_manifests(self.layout.root)
        return self

    def __exit__(self, *error: object) -> None:
        self._close_endpoint()

    @property
    def placement(self) -> Placement:
        return self.settings.placement

    @cached_property
    def precision(self) -> str:
        """The precision in which every model of the run is trained, stored and served; decided once and kept in the run's folder."""
        precision = self.settings.finetune.precision
        configured = self.placement.engine.dtype if precision == "auto" else precision
        return resolve_run_precision(self.layout.precision, configured, self._choose_precision)

    def _choose_precision(self) -> str:
        return "bfloat16" if self.uses_gpus else self.run_on_worker(choose_precision, 0)

    @property
    def uses_gpus(self) -> bool:
        """Whether a stage that trains, generates or serves has GPUs."""
        return any(stage.num_gpus for stage in (self.placement.finetune, self.placement.synthesize, self.placement.serve))

    @property
    def uses_cluster(self) -> bool:
        """Whether the work runs on a cluster that others started; its nodes may see other disks than this process."""
        return names_cluster(self.placement.cluster)

    def run_on_worker(self, function: Callable[P, T], memory_bytes: int, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` on a worker of the cluster, with memory reserved; without a cluster, in this process."""
        if not self.uses_cluster:
            return function(*args, **kwargs)
        self.connect(demand_of_one(1, 0, "placement.cluster"))
        return run_on_worker(function, memory_bytes, *args, **kwargs)

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

    def connect(self, demand: Demand | None = None) -> None:
        """Connect, and return when the cluster has room for ``demand``; the endpoint is closed where it holds what is missing."""
        connect_to(self.placement.cluster)
        if demand is None:
            if not self.uses_cluster:
                return
            demand = demand_of_one(1, 0, "placement.cluster")  # whatever is connected for starts a task
        if self._endpoint_key and not has_free(demand):
            self._close_endpoint()
        self._wait_for_room(demand)
        if self.uses_cluster and not self._is_root_checked:
            check_shared(self.layout.root.parent)
            close_leftover(self._application)
            self._is_root_checked = True

    def _wait_for_room(self, demand: Demand) -> None:
        with ExitStack() as stack:
            lines: list[ProgressLine] = []

            def say(text: str) -> None:
                if not lines:
                    lines.append(stack.enter_context(self.progress.stage("nodes")))
                lines[0].set_status(text)

            wait_for_room(demand, self.placement.cluster.wait_s, say)

    def _connect_without_endpoint(self, demand: Demand | None = None) -> None:
        """Connect, and close the endpoint, whose idle engines would keep memory and GPUs."""
        self._close_endpoint()
        self.connect(demand)

    @property
    def _application(self) -> str:
        """Name of the run's Serve application on a cluster."""
        return name_application(self.layout.root)

    def endpoint(self, models: dict[str, Artifact], max_model_len: int | None = None, base: Artifact | None = None) -> str:
        """Open an endpoint over ``models`` unless it is open, and return its URL. It closes before another opens, before training, and
        with the run.

        Args:
            base: what they were trained from, where they may be served as adapters over it.
        """
        length = max_model_len or self.settings.max_model_len
        key = (length, *models)
        # Only this process asks, and none of its questions is one too many.
        replicas, options = (
            self.placement.serve.model_copy(update={"host": LOOPBACK, "quantization": None}),
            EndpointOptions(Access(max_requests=None)),
        )
        if self._endpoint_key != key:
            self._close_endpoint()
            self.connect(demand_of_replicas(replicas, len(assign_engines(models, replicas, base))))
            name = self._application if self.uses_cluster else ""
            endpoint = open_endpoint(models, replicas, self.engine, length, name, base, options)
            self._url, self._endpoint_key = self._stack.enter_context(endpoint), key
        return self._url

    def _close_endpoint(self) -> None:
        self._stack.close()
        self._endpoint_key = ()
