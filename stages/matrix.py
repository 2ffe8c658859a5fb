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
    """Names of what is evaluated, of those in `made`: files of `models/` without suffix."""

    def made(self) -> list[str]:
        """Returns the names of all models that dvc.yaml makes."""
        names = ["teacher"]
        for encoder in self.encoders:
            names += [f"student-{encoder}-{labels}" for labels in self.labels]
            names += [f"metric-{encoder}-{domain}" for domain in self.domains]
        names += [f"student-{encoder}-both" for encoder in self.both]
        names += [f"student-{encoder}-warm" for encoder in self.warm]
        return names + [f"student-{encoder}-live" for encoder in self.live]
