"""What single labels must be like: judged of the first shards, and of all by `gate_labels`."""

from typing import Annotated

from pydantic import Field, PositiveFloat

from stages.params import Params

Share = Annotated[float, Field(ge=0, le=1)]


class LabelLimitsParams(Params):
    """Limits of labels, whichever source or shard they are of."""

    max_degenerate_fraction: Share
    """Share of labels that are flat, so that no loss could learn from them."""
    max_zero_fraction: Share
    """Largest share of pixels that are exactly 0 in a label (a dead or saturated head)."""
    max_ramp_correlation: Share
    """Largest correlation of a label with the row number: above it says only "lower is closer"."""
    mostly: Annotated[float, Field(gt=0, le=1)]
    """Share of labels that must keep the two limits above."""
    max_flip_inconsistency: PositiveFloat
    """Mean change of a label, as a share of its range, when its image is mirrored."""
    max_scale_inconsistency: PositiveFloat
    """Mean change of a label, as a share of its range, when the teacher sees its image at another
    resolution."""
