"""Config of the encoder that turns texts into vectors."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from delia_ray.core.config import Config


class OwnEncoder(Config):
    """Use the model that is fine-tuned: a text's vector is its last hidden state, averaged over the text's tokens. Nothing to download."""

    kind: Literal["own"] = "own"


class FolderEncoder(Config):
    """Use an encoder in a folder, as sentence-transformers saves one, averaged over the text's tokens."""

    kind: Literal["folder"]
    path: Path
    """The folder."""


Encoder = Annotated[OwnEncoder | FolderEncoder, Field(discriminator="kind")]
