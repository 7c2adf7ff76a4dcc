from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from delia_ray.config import Config


class OwnEncoder(Config):
    """A text's vector is the tuned model's own last hidden state, averaged over the text's tokens: nothing to download."""

    kind: Literal["own"] = "own"


class FolderEncoder(Config):
    """An encoder in a folder, as sentence-transformers saves one, averaged over the text's tokens."""

    kind: Literal["folder"]
    path: Path
    """The folder."""


Encoder = Annotated[OwnEncoder | FolderEncoder, Field(discriminator="kind")]
