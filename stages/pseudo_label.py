"""Labels the unlabelled photographs with the teacher, shard by shard."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.fingerprint import WORK
from stages.labelling_job import PseudoLabelParams, make_job
from stages.params import load
from stages.program import run

if TYPE_CHECKING:
    from dav2.labeling.first_shards import FirstShards
    from dav2.labeling.job import LabelingJob
    from dav2.labeling.plan import PlannedShard
    from dav2.labeling.store import ShardRecord
    from stages.tracking import Run

_TRACKED = (
    "num_samples",
    "num_labelled",
    "num_quarantined",
    "num_degenerate",
    "num_shards_set_aside",
    "coverage",
)

_DRAWN = 12

logger = logging.getLogger(__name__)


def main(manifest_path: Path, teacher_path: Path, output: Path) -> None:
    """Makes a folder of shards from a gated manifest and a teacher.

    Finished shards are kept in `.work/pseudo_label/<fingerprint>`, so that an interrupted run
    continues and a new source or photograph costs only its own shards.

    Args:
        manifest_path: Gated manifest of the unlabelled photographs.
        teacher_path: Checkpoint of the teacher.
        output: Folder to write: `shards/*.tar`, `shards.json`, `manifest.parquet`,
            `quarantine.parquet` and `summary.json`.

    Raises:
        SystemExit: With one line, if the parameters do not fit, an input is missing or damaged, the
            teacher predicts metres, another labelling is running, or more photographs than allowed
            cannot be labelled. Nothing is written to `output` then.
    """
    try:
        _pseudo_label(load("pseudo_label", PseudoLabelParams), manifest_path, teacher_path, output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"pseudo_label: {error}") from None


def _pseudo_label(
    params: PseudoLabelParams, manifest_path: Path, teacher_path: Path, output: Path
) -> None:
    import torch

    from dav2.labeling.plan import plan_shards
    from dav2.labeling.preview import draw_labels, draw_worst_labels
    from dav2.labeling.store import held_alone, publish
    from dav2.labeling.summary import summarise
    from stages.tracking import tracked

    torch.set_num_threads(params.num_threads)
    inputs = {"unlabelled": manifest_path, "teacher": teacher_path}
    with tracked("pseudo_label", params, inputs=inputs, outputs=[output]) as run:
        job = make_job(params, manifest_path, teacher_path)
        with held_alone(WORK / "pseudo_label.lock", output, job.store):
            shards = plan_shards(
                job.manifest, samples_per_shard=params.samples_per_shard, recipe=job.recipe
            )
            records = _label(params, job, shards, run)
            summary = summarise(job, records)
            publish(job.store, records, output, summary=summary)
        run.log_metrics({name: summary[name] for name in _TRACKED})
        picture = draw_labels(output, num_samples=_DRAWN)
        if picture is not None:
            run.log_picture("labels.png", picture)
        for measure, worst in draw_worst_labels(output, num_samples=_DRAWN).items():
            run.log_picture(f"worst-{measure}.png", worst)


def _label(
    params: PseudoLabelParams, job: "LabelingJob", shards: "list[PlannedShard]", run: "Run"
) -> "list[tuple[PlannedShard, ShardRecord]]":
    """Returns the record of every shard, of earlier runs or made now."""
    from tqdm import tqdm

    from dav2.labeling.engine import label_shards
    from dav2.labeling.first_shards import source_by_source
    from dav2.labeling.store import find_shard
    from dav2.labeling.unread import readable_again
    from stages.labelling_progress import Progress
    from stages.labelling_spent import SpentLog

    found = [(shard, record) for shard in shards if (record := find_shard(job.store, shard))]
    again = readable_again(job, found)
    records = {shard.name: record for shard, record in found if shard.name not in again}
    missing = source_by_source(shard for shard in shards if shard.name not in records)
    num_missing = sum(len(shard.rows) for shard in missing)
    logger.info("%d of %d shards are there already", len(records), len(shards))
    refused, first = _Refused(params, job), _first_shards(params, job, shards)
    for shard, record in found:
        if shard.name in records:
            refused.add(shard, record)
            first.add(shard, record)
    num_samples = len(job.manifest)
    with tqdm(
        total=num_samples,
        initial=num_samples - num_missing,
        desc="label",
        unit="image",
        smoothing=0.1,
    ) as bar:
        spent = SpentLog(job.store / "spent.jsonl")
        progress = Progress(run, bar, spent, on_gpu=job.device.type == "cuda")
        try:
            attempts = label_shards(
                params.engine, missing, job, on_samples=bar.update, on_attempt=progress.add
            )
            for attempt in attempts if missing else ():  # without a teacher to load
                assert attempt.record is not None
                records[attempt.shard.name] = attempt.record
                refused.add(attempt.shard, attempt.record)
                first.add(attempt.shard, attempt.record)
        finally:
            progress.finish(gpu_hour_price=params.gpu_hour_price)
    return [(shard, records[shard.name]) for shard in shards]


def _first_shards(
    params: PseudoLabelParams, job: "LabelingJob", shards: "list[PlannedShard]"
) -> "FirstShards":
    from dav2.labeling.first_shards import FirstShards, LabelLimits
    from stages.label_limits import LabelLimitsParams

    limits = LabelLimits(**load("gate_labels.labels", LabelLimitsParams).model_dump())
    return FirstShards(job.store, limits, shards, num_shards=params.check_first_shards)


class _Refused:
    """Counts photographs without a label, and stops the stage at too many."""

    def __init__(self, params: PseudoLabelParams, job: "LabelingJob") -> None:
        self._job = job
        self._num_refused = 0
        # As in ingest, a handful of photographs may lose one.
        self._limit = max(1.0, params.max_quarantined_fraction * len(job.manifest))

    def add(self, shard: "PlannedShard", record: "ShardRecord") -> None:
        from dav2.labeling.store import read_refused

        if record.set_aside:
            return
        self._num_refused += record.num_refused
        if self._num_refused > self._limit:
            reason = read_refused(self._job.store, [shard])["reason"].to_pylist()[0]
            raise ValueError(
                f"expected at most {self._limit:g} of {len(self._job.manifest)} photographs "
                f"without a label, got {self._num_refused} so far, one of them {reason}"
            )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("pseudo_label", main, *(Path(argument) for argument in sys.argv[1:]))
