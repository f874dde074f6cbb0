"""What every section of the settings is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Absolute = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""Tasks run in folders of their own: what is relative to the user's is made absolute here, once."""
