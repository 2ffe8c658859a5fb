"""Parameters that the training stages share, and what they mean to `dav2.training`."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dav2.training.schedule import ScheduleName
from stages.params import Params

if TYPE_CHECKING:
    from dav2.training.augment import Perturbed
    from dav2.training.fit import FitConfig
    from dav2.training.mixture import Part
    from dav2.training.module import LossConfig

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Side = Annotated[int, Field(ge=14, multiple_of=14)]


class OptimiserParams(Params):
    """How weights move."""

    encoder_lr: PositiveFloat
    """AdamW's step size of the encoder."""
    decoder_lr: PositiveFloat
    """AdamW's step size of the head; the papers take ten times the encoder's."""
    schedule: ScheduleName
    warmup_steps: NonNegativeInt
    weight_decay: Weight
    betas: tuple[Share, Share]
    clip_norm: Weight
    """Gradients of a larger norm are shortened to it; 0 for never."""
    average_decay: Annotated[float, Field(ge=0, lt=1)]
    """Of the exponential average of the weights, which is what is kept; 0 for the last weights."""
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    """Each encoder block's rate is this times that of the block above it; 1 for one rate."""


class AugmentParams(Params):
    """What is varied from one view of a sample to the next."""

    max_scale: Annotated[float, Field(ge=1)]
    """Before the crop, images are enlarged by up to this factor."""
    flip_probability: Share
    jitter_probability: Share
    """Of changing the colours."""
    brightness: Share
    """Factor between 1 - this and 1 + this; likewise contrast and saturation."""
    contrast: Share
    saturation: Share
    hue: Annotated[float, Field(ge=0, le=0.5)]
    """Largest turn of the hue; 0.5 is the opposite colour."""
    blur_probability: Share
    blur_sigma_px: tuple[Weight, PositiveFloat]
    """Smallest and largest deviation of the blur."""
    cutmix_probability: Share
    """Of a rectangle that is another sample's, with its label; V1 takes 0.5."""


class ValidationParams(Params):
    """How a model is watched while it trains."""

    every_steps: PositiveInt
    num_samples: PositiveInt
    """Frozen samples: spread over the split `val`, or held out of pseudo-labels."""
    keep_best: bool
    """Keep the weights of the smallest AbsRel on them, rather than the last."""
    min_pair_accuracy: Share
    """The stage fails below it: a collapsed model must not go on. Half is chance."""
    patience: PositiveInt | None
    """Validations in a row without a smaller AbsRel after which training ends; null for never."""


class ParallelParams(Params):
    """Devices that train one model: docs/training.md."""

    launcher: Literal["local", "torchrun", "slurm"]
    """Who starts the other processes: `local`, the first one itself, for one machine; `torchrun` or
    `slurm`, the operator."""
    num_machines: PositiveInt
    num_devices: PositiveInt
    """Of each machine: GPUs, or processes where `device` is `cpu`."""
    strategy: Literal["ddp", "fsdp"]
    """`ddp`: each device holds the whole model; `fsdp`: a share of its weights."""


class RunningParams(Params):
    """What decides no weight."""

    num_workers: NonNegativeInt
    """Processes for each device that decode samples which do not fit into memory."""
    memory_limit_mb: PositiveInt
    """Decoded samples are kept in a machine's memory while below this."""
    checkpoint_every_steps: PositiveInt
    """An interrupted training goes on from the last of these."""


class RunParams(Params):
    """What every training states."""

    seed: NonNegativeInt
    num_steps: PositiveInt
    batch_size: PositiveInt
    """Samples of one forward pass, over all devices together."""
    accumulate: PositiveInt
    """Forward passes of one step."""
    short_side_px: PositiveInt
    """Short side of an image before the crop."""
    crops_px: Annotated[tuple[tuple[Side, Side], ...], Field(min_length=1)]
    """Heights and widths of views; each batch has one of them."""
    precision: Literal["float32", "bfloat16"]
    """Of activations; weights and losses stay in float32."""
    device: Literal["auto", "cpu", "cuda"]
    """`auto`: a CUDA device where there is one."""
    num_threads: PositiveInt
    """Of the CPU, for each device; another number rounds otherwise, and so gives other weights."""
    compile: bool
    """Compile the model, once for each of `crops_px`: faster on a GPU, other rounding."""
    checkpoint_activations: bool
    """Compute what the encoder's blocks hold twice instead of keeping it: less memory, slower,
    equal weights."""
    log_every_steps: PositiveInt
    """Steps of one row of the curves."""
    parallel: ParallelParams
    optimiser: OptimiserParams
    running: RunningParams


class TrainingParams(RunParams):
    """What every training on depth states."""

    augment: AugmentParams
    validation: ValidationParams


LabelNoise = dict[str, Annotated[float, Field(ge=0, le=2)]]
"""For some sources, how faulty their depth is made (`dav2.training.label_noise`); 1 is a poor
sensor."""


class RelativeLossParams(Params):
    """Terms of a training on inverse depth."""

    gradient_weight: Weight
    """Of gradient matching, beside the data term's 1; the paper's choice is 2."""
    num_gradient_scales: PositiveInt
    alignment: Literal["median", "least_squares"]
    """How a prediction meets its target: both freed of median and mean deviation, as the papers
    do, or the one fitted to the other."""


def fit_config(
    params: TrainingParams,
    *,
    name: str,
    losses: "LossConfig",
    max_depth_m: float | None = None,
    mixture: "tuple[Part, ...]" = (),
    perturb: "Perturbed" = "all",
) -> "FitConfig":
    """Returns what `dav2.training.fit` takes.

    Args:
        params: Parameters of the stage.
        name: Shown while it trains.
        losses: Terms and weights.
        max_depth_m: Of a metric model.
        mixture: Sets that are drawn by weight, if any.
        perturb: Which samples get other colours, blur and CutMix.
    """
    from dav2.training.fit import FitConfig
    from dav2.training.validation import ValidationConfig

    options = run_options(params, params.augment, name=name, perturb=perturb)
    return FitConfig(
        **options,
        losses=losses,
        validation=ValidationConfig(
            every_steps=params.validation.every_steps,
            short_side_px=params.short_side_px,
            batch_size=max(1, params.batch_size // options["parallel"].num_ranks),
            keep_best=params.validation.keep_best,
            max_depth_m=max_depth_m,
            patience=params.validation.patience,
        ),
        mixture=mixture,
    )


def run_options(
    params: RunParams, augment: Params, *, name: str, perturb: "Perturbed" = "all"
) -> dict[str, Any]:
    """Returns the fields of `dav2.training.run.RunConfig` that mean the same in every training.

    Args:
        params: Parameters of the stage.
        augment: What it varies from view to view, by the names of `AugmentConfig`.
        name: Shown while it trains.
        perturb: Which samples get other colours, blur and CutMix.
    """
    from dav2.training.augment import AugmentConfig
    from dav2.training.parallel import ParallelConfig
    from dav2.training.steps import OptimiserConfig

    return {
        "name": name,
        "seed": params.seed,
        "optimiser": OptimiserConfig(num_steps=params.num_steps, **params.optimiser.model_dump()),
        "augment": AugmentConfig(
            short_side_px=params.short_side_px,
            crops_px=params.crops_px,
            perturb=perturb,
            **augment.model_dump(),
        ),
        "batch_size": params.batch_size,
        "accumulate": params.accumulate,
        "precision": params.precision,
        "device": params.device,
        "num_threads": params.num_threads,
        "num_workers": params.running.num_workers,
        "memory_limit_bytes": params.running.memory_limit_mb * 1_000_000,
        "log_every_steps": params.log_every_steps,
        "checkpoint_every_steps": params.running.checkpoint_every_steps,
        "compile_blocks": params.compile,
        "checkpoint_activations": params.checkpoint_activations,
        "parallel": ParallelConfig(**params.parallel.model_dump()),
    }
