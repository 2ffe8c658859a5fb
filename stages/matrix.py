"""The models that params.yaml asks for."""

from typing import Annotated, Literal

from pydantic import Field

from stages.params import Params


class MatrixParams(Params):
    """What is trained and evaluated; dvc.yaml makes one stage of each combination."""

    encoders: Annotated[tuple[str, ...], Field(min_length=1)]
    labels: tuple[Literal["pseudo", "synthetic"], ...]
    both: tuple[str, ...]
    """Encoders of students that learn from pseudo-labels and synthetic images together."""
    warm: tuple[str, ...]
    """Encoders that are warmed up on the unlabelled images, and of students of pseudo-labels that
    start from them."""
    live: tuple[str, ...]
    """Encoders of students that ask the teacher for each label as they train, without shards."""
    domains: tuple[Literal["indoor", "outdoor"], ...]
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of what is evaluated: files of `models/` without suffix."""
