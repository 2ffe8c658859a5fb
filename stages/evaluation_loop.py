"""Predicts and measures the images of an evaluation, reading and measuring beside the model."""

import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from dav2.data.open import ManifestReader
from stages.evaluated_maps import PredictedMaps
from stages.evaluated_model import EvaluatedModel
from stages.evaluation import Evaluation, Predicted, saved_rows
from stages.evaluation_params import KINDS, EvaluateParams, Kind, source_protocols
from stages.leaderboard_rows import Cost

if TYPE_CHECKING:
    import pandas as pd

    from dav2.data.sample import DepthSample
    from dav2.prediction.model_input import ModelInput

_SMALLEST_DEPTH_M = np.float32(1e-6)  # a metric model may say 0, whose inverse is no number

_BATCH_PIXELS = 1 << 25
"""Most pixels read at once; a larger image comes alone."""


@dataclass(slots=True)
class Taken:
    """What the loop over images took."""

    num_images: int = 0
    evaluate_s: float = 0.0
    predict_s: float = 0.0
    """Of this the model, with the preparation of images and the resizing of maps."""

    def cost(self, sizes: Mapping[str, int] | None) -> Cost:
        """Returns what the leaderboard keeps of it; None has no model that ran here."""
        if sizes is None:
            return Cost()
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            peak_mb = torch.cuda.max_memory_allocated() / 1e6
            device = torch.cuda.get_device_name()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            peak_mb = peak / 1e6 if sys.platform == "darwin" else peak / 1e3
            device = "cpu"
        count = self.num_images
        return Cost(
            parameters=sizes["parameters"],
            bytes=sizes["bytes"],
            predict_s=self.predict_s / count if count else None,
            evaluate_s=self.evaluate_s / count if count else None,
            peak_mb=round(peak_mb),
            device=device,
        )


def measure(
    evaluation: Evaluation,
    params: EvaluateParams,
    manifest: "pd.DataFrame",
    reader: ManifestReader,
    model: EvaluatedModel | PredictedMaps,
) -> Taken:
    """Predicts and measures all images that are not done; reads and measures beside the model.

    The next images are read, and those predicted before are measured, each in a thread of its own:
    at most three batches are held at once. Order and batches, hence numbers, do not depend on it.

    Args:
        evaluation: Of the manifest; it gathers the measures.
        params: Sizes and counts.
        manifest: Rows of `evaluation`.
        reader: Of those rows.
        model: Prepared here; or maps in its place.
    """
    from dav2.prediction.ahead import use_behind

    taken = Taken()

    def gather(batch: Sequence[Predicted]) -> None:
        for predicted in batch:
            evaluation.add(predicted)
            taken.num_images += 1

    begin_s = time.monotonic()
    if isinstance(model, PredictedMaps):
        batches = model.predicted(manifest, reader, params, evaluation.done)
    else:
        batches = _predicted(params, manifest, reader, model, evaluation.done, taken)
    use_behind(batches, gather)
    taken.evaluate_s = time.monotonic() - begin_s
    return taken


def _predicted(
    params: EvaluateParams,
    manifest: "pd.DataFrame",
    reader: ManifestReader,
    model: EvaluatedModel,
    done: Set[int],
    taken: Taken,
) -> Iterator[list[Predicted]]:
    """Yields the predictions of the rows that are not done, a batch at a time."""
    from tqdm import tqdm

    from dav2.prediction.ahead import read_ahead
    from dav2.prediction.changes import inconsistencies

    dtype = model.prepare(params)
    before = frozenset(done)  # what is measured meanwhile is not known by then
    domains = dict(zip(manifest["source"], manifest["domain"], strict=True))
    inputs = _inputs(params, model, domains)
    sources = [str(source) for source in manifest["source"]]
    changed = saved_rows(manifest, params.consistency_samples)
    # Batches stay as they are, if only one of their images is left: another may round otherwise.
    left = [rows for rows in _batches(manifest, params.batch_size) if not before >= set(rows)]
    batches = ((rows, [reader.read(row) for row in rows]) for rows in left)
    with tqdm(total=len(manifest), initial=len(before), desc="evaluate", unit="image") as bar:
        for rows, samples in read_ahead(batches):
            wanted = [inputs[sources[row]] for row in rows]
            begin_s = time.monotonic()
            maps = _predict_inputs(params, model, samples, wanted, dtype)
            taken.predict_s += time.monotonic() - begin_s
            batch = []
            for row, sample, kinds, found in zip(rows, samples, wanted, maps, strict=True):
                if row in before:
                    continue
                changes: dict[str, float] = {}
                values = found["relative"]
                if row in changed and sample.depth is not None:
                    changes = inconsistencies(
                        model.network, sample.image, values, kinds["relative"], dtype=dtype
                    )
                if model.domain is not None:
                    values = 1 / np.maximum(values, _SMALLEST_DEPTH_M)
                batch.append(Predicted(row, sample, values, found.get("metric"), changes))
                bar.update()
            yield batch


def _inputs(
    params: EvaluateParams, model: EvaluatedModel, domains: Mapping[str, str]
) -> dict[str, dict[Kind, "ModelInput"]]:
    """Returns, for each source, what the model sees under each protocol that applies to it."""
    short_side_px = params.short_side_px or model.trained_px
    return {
        source: {
            kind: protocol.model_input(short_side_px, model.preparation)
            for kind, (_, protocol) in protocols.items()
            if kind == "relative" or domains[source] == model.domain
        }
        for source, protocols in source_protocols(params, domains).items()
    }


def _batches(manifest: "pd.DataFrame", batch_size: int) -> Iterator[list[int]]:
    """Yields all rows, some at a time, whose images fit into memory together."""
    pixels = (manifest["width"].astype("int64") * manifest["height"]).tolist()
    batch: list[int] = []
    for row in range(len(pixels)):
        total = sum(pixels[other] for other in batch) + pixels[row]
        if batch and (len(batch) == batch_size or total > _BATCH_PIXELS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _predict_inputs(
    params: EvaluateParams,
    model: EvaluatedModel,
    samples: "Sequence[DepthSample]",
    wanted: "Sequence[Mapping[Kind, ModelInput]]",
    dtype: Any,
) -> "list[dict[Kind, Float32[np.ndarray, '_H _W']]]":
    """Returns the model's map of each sample under each protocol; equal inputs are run once."""
    from dav2.prediction.seen import predict_with

    found: list[dict[Kind, Float32[np.ndarray, "_H _W"]]] = [{} for _ in samples]
    for chosen in dict.fromkeys(one for kinds in wanted for one in kinds.values()):
        places = [place for place, kinds in enumerate(wanted) if chosen in kinds.values()]
        images = [samples[place].image for place in places]
        maps = predict_with(
            model.network, images, chosen, batch_size=params.batch_size, dtype=dtype
        )
        for place, values in zip(places, maps, strict=True):
            found[place] |= {kind: values for kind in KINDS if wanted[place].get(kind) == chosen}
    return found
