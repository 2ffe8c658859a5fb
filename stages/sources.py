"""The data sources that params.yaml names: where they lie and what they are for."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dav2.data.open import DatasetName, SourceLocation
from stages.params import PARAMS_FILE, Params, read_document, validate

Role = Literal["labelled", "unlabelled", "metric_indoor", "metric_outdoor", "evaluation"]
ROLES: tuple[Role, ...] = (
    "labelled",
    "unlabelled",
    "metric_indoor",
    "metric_outdoor",
    "evaluation",
)


class SourceParams(Params):
    """One source of samples."""

    reader: DatasetName
    root: str
    """Folder of the data, relative to the project or absolute; or `s3://bucket/prefix`."""
    watch: str
    """What DVC compares: the root itself if small, else the listing of `stages.snapshot`."""
    domain: Literal["indoor", "outdoor", "mixed"]
    """Which metric models are evaluated on it; ingest writes it into the manifest."""
    roles: Annotated[dict[Role, tuple[str, ...]], Field(min_length=1)]
    """For each role, the splits that serve it."""

    licence: str = ""
    """Of the data, for its card in the report."""
    origin: str = ""
    """Where it comes from, for its card."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Choices of the reader, as its class of options names them; none for most."""

    def location(self) -> SourceLocation:
        """Returns reader, root and options."""
        return SourceLocation(reader=self.reader, root=self.root, options=self.options)

    def splits(self) -> list[str]:
        """Returns every split that some role uses, sorted."""
        return sorted({split for splits in self.roles.values() for split in splits})


def load_sources(path: Path = PARAMS_FILE) -> dict[str, SourceParams]:
    """Returns the section `sources`, by name; a one-line `ValueError` if it does not fit."""
    section = read_document(path).get("sources")
    if not isinstance(section, dict) or not section:
        raise ValueError(f"{path}: expected at least one source under 'sources', got {section!r}")
    return {
        name: validate(content, SourceParams, where=f"{path}: sources.{name}")
        for name, content in section.items()
    }


def locations(path: Path = PARAMS_FILE) -> dict[str, SourceLocation]:
    """Returns reader and root of every source.

    Stages that open samples call this without naming `sources` as a DVC parameter: manifests carry
    the content hashes and the domain of what they list, so that moving a root reruns nothing.
    """
    return {name: source.location() for name, source in load_sources(path).items()}
