"""Parameters of evaluation, shared by models and trivial baselines."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from stages.evaluation_protocols import ProtocolParams, read_protocol
from stages.params import Params

Domain = Literal["indoor", "outdoor"]
Kind = Literal["relative", "metric"]
KINDS: tuple[Kind, ...] = ("relative", "metric")


class EvaluateParams(Params):
    """How models and baselines are evaluated."""

    device: Literal["auto", "cpu", "cuda"]
    """`auto`: a CUDA device where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"]
    """Arithmetic of the model; `auto`: bfloat16 on a GPU, float32 on a CPU."""
    num_threads: PositiveInt
    """Of the model on a CPU; another number may round predictions differently."""
    batch_size: PositiveInt
    short_side_px: Annotated[int, Field(gt=0, multiple_of=14)] | None
    """Short side of the model's input, the whole image, never a crop; null: as it was trained."""
    relative: str
    """Protocol of every model, on every source with depth: a file of `protocols/`."""
    metric: Annotated[dict[Domain, str], Field(min_length=2)]
    """Protocols of metric models, on the sources of their domain."""
    protocols: dict[str, Annotated[dict[Kind, str], Field(min_length=1)]]
    """Those of single sources, by name, in place of these."""
    num_pairs: Annotated[int, Field(gt=0, multiple_of=2)]
    """Pairs of points drawn from the dense truth of an image, half with the upper point closer."""
    min_pair_ratio: Annotated[float, Field(gt=1)]
    """Smallest ratio of the depths of such a pair."""
    baseline_samples: PositiveInt
    """Most training samples whose mean makes the baselines, evenly spread over the manifest."""
    saved_predictions: NonNegativeInt
    """Most predictions kept as pictures per source, the same samples for every model."""
    consistency_samples: NonNegativeInt
    """Most images of each source with depth that are predicted again mirrored, cropped and larger:
    three more predictions each."""
    bootstrap_resamples: PositiveInt
    """Draws behind the confidence intervals."""

    @model_validator(mode="after")
    def _protocols_fit(self) -> Self:
        for kind in KINDS:
            for name in self._names(kind):
                protocol = read_protocol(name).protocol()
                if protocol.is_relative != (kind == "relative"):
                    raise ValueError(
                        f"expected a protocol aligned in {'inverse ' * (kind == 'relative')}depth, "
                        f"got {name}, aligned in {protocol.alignment}"
                    )
        return self

    def names(self) -> list[str]:
        """Returns the names of all protocols."""
        return [name for kind in KINDS for name in self._names(kind)]

    def _names(self, kind: Kind) -> list[str]:
        shared = [self.relative] if kind == "relative" else list(self.metric.values())
        return [*shared, *(own[kind] for own in self.protocols.values() if kind in own)]

    def protocol_of(self, kind: Kind, source: str, domain: str) -> str | None:
        """Returns the name of a source's protocol; None where metric models have none.

        Args:
            kind: Of relative or of metric depth.
            source: Name of the source.
            domain: That of the source.
        """
        own = self.protocols.get(source, {}).get(kind)
        if own is not None or kind == "relative":
            return own or self.relative
        return {str(name): protocol for name, protocol in self.metric.items()}.get(domain)


def source_protocols(
    params: EvaluateParams, domains: Mapping[str, str]
) -> dict[str, dict[Kind, tuple[str, ProtocolParams]]]:
    """Returns name and content of each source's protocols.

    Args:
        params: Names the protocols.
        domains: Domain of each source.
    """
    return {
        source: {
            kind: (name, read_protocol(name))
            for kind in KINDS
            if (name := params.protocol_of(kind, source, domain)) is not None
        }
        for source, domain in domains.items()
    }
