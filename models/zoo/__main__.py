"""`python -m models.zoo STUDY`: add the trainings of a study to the zoo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from models.errors import ModelError
from models.zoo import ZOO
from models.zoo.keep import keep


def main(study: Annotated[Path, typer.Argument(help="Folder of a study of one seed.")]) -> None:
    """Copy its checkpoints into the zoo and describe them there."""
    try:
        folders = keep(study, ZOO)
    except ModelError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    typer.echo("\n".join(map(str, folders)))


if __name__ == "__main__":
    typer.run(main)
