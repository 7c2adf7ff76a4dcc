"""The folders of a run and what each holds: every path below ``runs/<run>/`` is spelled here or in the table of steps."""

from dataclasses import dataclass
from pathlib import Path

BASE = "base"
"""The untuned model: its artifact, and its name among the arms."""
INSTRUCTED = "base_instruction"
"""The untuned model that is told in words what the token stands for; it is scored, but is no arm."""
DEFAULT_POOL = "diverse"
"""The pool of diverse rows that ``synthesize`` makes; others are those of ``pools``."""


@dataclass(frozen=True)
class RunLayout:
    """The paths of one run."""

    root: Path
    """``runs/<run>``."""

    @property
    def base(self) -> Path:
        """The untuned model with the task's new tokens."""
        return self.root / BASE

    @property
    def pages(self) -> Path:
        """Rendered pages."""
        return self.root / "pages"

    @property
    def cache(self) -> Path:
        """Cached completions, unless ``placement.cache`` names another folder."""
        return self.root / ".cache"

    @property
    def precision(self) -> Path:
        """The precision that was chosen for the run."""
        return self.root / "precision.json"

    @property
    def lock(self) -> Path:
        """Held while a process works on the run."""
        return self.root / ".lock"

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.root / "logs"

    def log(self, verb: str) -> Path:
        """The log of a verb."""
        return self.logs / f"{verb.replace(' ', '-')}.log"

    def config(self, *, experiment: bool) -> Path:
        """The settings that the run keeps of itself. An experiment and a single run may share a folder, and have arms of their own."""
        return self.root / ("experiment.yaml" if experiment else "config.yaml")

    def artifact(self, role: str) -> Path:
        """The artifact of ``role``, such as ``arms/delia/model``."""
        return self.root / role

    def of_arm(self, arm: str, part: str) -> Path:
        """``mixed``, ``checkpoint``, ``model``, ``scores`` or another part of an arm."""
        return self.root / "arms" / arm / part

    def list_arms(self) -> list[str]:
        """The arms that have a folder, by name."""
        return sorted(folder.name for folder in (self.root / "arms").glob("*"))

    def of_pool(self, pool: str, part: str) -> Path:
        """``queries``, ``diverse`` or ``clean`` of a pool."""
        return self.root / part if pool == DEFAULT_POOL else self.root / "pools" / pool / part
