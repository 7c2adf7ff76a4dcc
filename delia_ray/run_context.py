"""What every step of a run works with: its settings and folder, one precision, the cluster, and one endpoint at a time."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from delia_ray.artifacts import Artifact, Provenance
from delia_ray.models import run_precision
from delia_ray.placement import Engine, Placement
from delia_ray.progress import Progress
from delia_ray.runtime import connect
from delia_ray.serving.endpoint import open_endpoint
from delia_ray.settings import Settings

PRECISION = "precision.json"
"""Where a run keeps the precision that was decided for it."""


@dataclass
class RunContext:
    """One run: its settings, and the means to build what they ask for. Leaving it closes the endpoint that is open."""

    settings: Settings
    progress: Progress
    provenance: Provenance
    _stack: ExitStack = field(default_factory=ExitStack)
    _url: str = ""
    _served: tuple[int | str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_endpoint()

    @property
    def placement(self) -> Placement:
        return self.settings.placement

    @cached_property
    def precision(self) -> str:
        """In which every model of the run is trained, stored and served, where the settings leave it open."""
        said, at = self.settings.finetune.precision, self.placement
        asked = at.engine.dtype if said == "auto" else said
        on_gpus = any(place.num_gpus for place in (at.finetune, at.synthesize, at.serve))
        return run_precision(self._path(PRECISION), asked, on_gpus=on_gpus)

    @property
    def engine(self) -> Engine:
        """How each engine uses its machine, its precision decided."""
        engine = self.placement.engine
        return engine.model_copy(update={"dtype": self.precision}) if engine.dtype == "auto" else engine

    @property
    def settled_placement(self) -> Placement:
        """``placement`` with the run's precision."""
        return self.placement.model_copy(update={"engine": self.engine})

    def _path(self, *role: str) -> Path:
        """Absolute, since workers have working folders of their own."""
        return self.settings.run.path.resolve().joinpath(*role)

    def _connect(self) -> None:
        connect(self.placement.cluster)

    def _take_over(self) -> None:
        """Connect for work that should find the cluster free: engines that only wait would keep its memory and GPUs."""
        self._close_endpoint()
        self._connect()

    def endpoint(self, models: dict[str, Artifact], max_model_len: int | None = None) -> str:
        """The URL of an endpoint over ``models``; another one is closed first. The last one closes with the run, or before training."""
        longest = max_model_len or self.settings.max_model_len
        asked = (longest, *models)
        if self._served != asked:
            self._close_endpoint()
            self._connect()
            endpoint = open_endpoint(models, self.placement.serve, self.engine, longest)
            self._url, self._served = self._stack.enter_context(endpoint), asked
        return self._url

    def _close_endpoint(self) -> None:
        self._stack.close()
        self._served = ()
