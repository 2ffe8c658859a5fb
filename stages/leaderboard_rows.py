"""The leaderboard's file: what every evaluation on this machine has measured, row by row.

It lies in the project's root beside `mlflow.db`, outside DVC's outputs: it accumulates, and holds
what varies by run, such as latency. `python -m stages.leaderboard` prints it.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dav2.data.files import written_whole
from stages.digests import dvc_digest
from stages.evaluation_params import KINDS, EvaluateParams, Kind, source_protocols
from stages.evaluation_summary import RESERVED
from stages.fingerprint import fingerprint

KEY = ("model_digest", "kind", "source", "manifest_digest", "protocol_digest", "measure")
"""What makes a row: evaluated again, it is replaced."""
SCHEMA = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),  # as it was called last
        pa.field("model_digest", pa.string(), nullable=False),  # DVC's hash of the weights
        pa.field("kind", pa.string(), nullable=False),  # relative, metric, da2k or whdr
        pa.field("source", pa.string(), nullable=False),
        pa.field("manifest_digest", pa.string(), nullable=False),  # of the source's samples
        pa.field("protocol", pa.string(), nullable=False),  # its name
        pa.field("protocol_digest", pa.string(), nullable=False),  # of all that moves a number
        pa.field("num_images", pa.int64(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),  # 95 %, over images
        pa.field("high", pa.float64()),
        pa.field("parameters", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("predict_s", pa.float64()),  # of an image, preparation and resizing included
        pa.field("evaluate_s", pa.float64()),  # of an image, reading and measures included
        pa.field("peak_mb", pa.float64()),  # of the device; on a CPU resident
        pa.field("device", pa.string()),
        pa.field("evaluated", pa.string(), nullable=False),  # UTC
    ]
)

_FILE = "leaderboard.parquet"
_MOVES_NUMBERS = (
    "dtype",
    "short_side_px",
    "num_pairs",
    "min_pair_ratio",
    "consistency_samples",
)
_SAMPLE = ["sample_id", "split", "content_hash", "decoder"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What an evaluation took; None where it is not known."""

    parameters: int | None = None
    bytes: int | None = None
    predict_s: float | None = None
    evaluate_s: float | None = None
    peak_mb: float | None = None
    device: str | None = None


def leaderboard_path() -> Path:
    """Returns where the file lies; an experiment of DVC in a copy of the project shares it."""
    here = Path.cwd()
    root = here if ".dvc" not in here.parts else Path(*here.parts[: here.parts.index(".dvc")])
    return root / _FILE


def read_leaderboard(path: Path) -> pd.DataFrame:
    """Returns all rows; none where there is no file.

    Raises:
        ValueError: If it is no leaderboard.
    """
    if not path.is_file():
        return pd.DataFrame(columns=SCHEMA.names)
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: expected a Parquet file, got {error}") from None
    if set(table.column_names) != set(SCHEMA.names):
        wrong = sorted(set(table.column_names) ^ set(SCHEMA.names))
        raise ValueError(
            f"{path}: expected a leaderboard's columns, got missing or unknown {', '.join(wrong)}"
        )
    return pd.DataFrame(table.select(SCHEMA.names).to_pandas())


def record(
    name: str,
    checkpoint: Path,
    *,
    manifest: pd.DataFrame,
    metrics: Mapping[str, Any],
    params: EvaluateParams,
    cost: Cost,
    path: Path | None = None,
) -> int:
    """Adds an evaluation to the leaderboard, in place of an equal one; safe against two at once.

    Args:
        name: What the model is called.
        checkpoint: The model.
        manifest: That it was evaluated on.
        metrics: Content of `metrics.json`.
        params: Of the evaluation.
        cost: What it took.
        path: File to write; None: that of the project.

    Returns:
        How many rows it has.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    shared = {"model": name, "model_digest": dvc_digest(checkpoint), "evaluated": now}
    shared |= asdict(cost)
    rows = pd.DataFrame(
        [shared | row for row in _rows(manifest, metrics, params)], columns=SCHEMA.names
    )
    path = path or leaderboard_path()
    with _locked(path):
        before = read_leaderboard(path)
        # Where one of the two is empty, its columns have no types to agree on.
        parts = [part for part in (before, rows) if len(part)]
        both = pd.concat(parts) if parts else before
        both = both.drop_duplicates(list(KEY), keep="last")
        table = pa.Table.from_pandas(both, SCHEMA, preserve_index=False)
        with written_whole(path) as written:
            pq.write_table(table.replace_schema_metadata(None), written, compression="zstd")
    return len(rows)


def _rows(
    manifest: pd.DataFrame, metrics: Mapping[str, Any], params: EvaluateParams
) -> Iterator[dict[str, Any]]:
    """Yields what is particular to each row."""
    protocols = source_protocols(
        params, dict(zip(manifest["source"], manifest["domain"], strict=True))
    )
    datasets = dict(zip(manifest["source"], manifest["dataset"], strict=True))
    settings = {key: params.model_dump(mode="json")[key] for key in _MOVES_NUMBERS}
    intervals = metrics["intervals"]

    def evaluated(kind: str, name: str, sources: list[str]) -> dict[str, Any]:
        samples = manifest[manifest["source"].isin(sources)]
        used: Kind = "metric" if kind == "metric" else "relative"
        entries = [protocols[source][used] for source in sources]
        said = [entry.model_dump(mode="json") for _, entry in entries]
        listed = json.loads(samples[_SAMPLE].sort_values("sample_id").to_json(orient="values"))
        return {
            "kind": kind,
            "source": name,
            "manifest_digest": fingerprint(listed),
            "protocol": ", ".join(sorted({entry for entry, _ in entries})),
            "protocol_digest": fingerprint(said, settings),
            "num_images": len(samples),
        }

    for kind in KINDS:
        means = metrics if kind == "relative" else metrics.get("metric", {})
        ends = intervals if kind == "relative" else intervals.get("metric", {})
        for source in sorted(set(means) - set(RESERVED)):
            about = evaluated(kind, source, [source])
            values = {key: value for key, value in means[source].items() if key != "num_images"}
            yield from _measured(about, values, ends.get(source, {}))
    if "da2k" in metrics:
        sources = sorted(source for source, dataset in datasets.items() if dataset == "da2k")
        about = evaluated("da2k", "+".join(sources), sources)
        yield from _measured(about, metrics["da2k"], intervals["da2k"])
    for source, rate in metrics.get("whdr", {}).items():
        about = evaluated("whdr", source, [source])
        yield from _measured(about, {"whdr": rate}, {"whdr": intervals["whdr"][source]})


def _measured(
    about: Mapping[str, Any], values: Mapping[str, float], ends: Mapping[str, list[float]]
) -> Iterator[dict[str, Any]]:
    for measure, value in values.items():
        low, high = ends.get(measure, (None, None))
        yield {**about, "measure": measure, "value": value, "low": low, "high": high}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock beside the file's project, which a killed process frees."""
    lock = path.parent / ".work" / f"{path.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
