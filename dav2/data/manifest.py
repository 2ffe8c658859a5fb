"""The table that lists a source's samples: one row each, with what the gates need to know."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),  # unique over all sources
        pa.field("source", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),  # name of the reader
        pa.field("domain", pa.string(), nullable=False),  # of the source; decides metric protocols
        pa.field("split", pa.string(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),  # paths: POSIX, relative to the root
        pa.field("depth", pa.string()),
        pa.field("extra", pa.string(), nullable=False),  # a JSON list of paths
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),  # of image and depth
        pa.field("content_hash", pa.string()),  # SHA-256 over the bytes of all files
        pa.field("image_hash", pa.string()),  # SHA-256 of the image's bytes, whatever the reader
        pa.field("decoder", pa.string(), nullable=False),  # fingerprint of the reader's code
        pa.field("image_format", pa.string()),  # null where images are no files of their own
        pa.field("image_mode", pa.string()),
        pa.field("exif_orientation", pa.int32()),
        pa.field("exif_focal_35mm", pa.float64()),
        pa.field("brightness", pa.float64()),
        pa.field("contrast", pa.float64()),
        pa.field("sharpness", pa.float64()),
        pa.field("colourfulness", pa.float64()),
        pa.field("red_minus_blue", pa.float64()),
        pa.field("perceptual_hash", pa.string()),
        pa.field("nearest_bits", pa.int32()),  # to the hash most alike in the source; null: none
        pa.field("valid_fraction", pa.float64()),
        pa.field("sky_fraction", pa.float64()),
        pa.field("nonfinite_fraction", pa.float64()),
        pa.field("depth_p01_m", pa.float64()),
        pa.field("depth_p50_m", pa.float64()),
        pa.field("depth_p99_m", pa.float64()),
        pa.field("depth_constant", pa.bool_()),
        pa.field("depth_levels", pa.int64()),
        pa.field("depth_at_min_fraction", pa.float64()),
        pa.field("depth_at_max_fraction", pa.float64()),
        pa.field("planarity_over_inverse", pa.float64()),
        pa.field("planarity_over_distance", pa.float64()),
        pa.field("edge_agreement", pa.float64()),
        pa.field("edge_agreement_moved", pa.float64()),
        pa.field("reason", pa.string()),  # why quarantined; null: good
    ]
)
"""Columns and types. `dav2.data.statistics` and `dav2.data.consistency` explain the measured ones;
null: not known."""

_ID_LENGTH = 200


class ManifestWriter:
    """Writes a manifest in parts, so that memory stays bounded; a context manager.

    The same rows in the same parts give the same bytes. Rows come sorted by source and sample.
    """

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, MANIFEST_SCHEMA, compression="zstd")

    def __enter__(self) -> "ManifestWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, rows: list[Mapping[str, Any]]) -> None:
        """Appends rows, each with every column of `MANIFEST_SCHEMA`."""
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, MANIFEST_SCHEMA))


def write_manifest(frame: pd.DataFrame, path: Path) -> None:
    """Writes a manifest sorted by source and sample; the same rows give the same bytes.

    Args:
        frame: Columns of `MANIFEST_SCHEMA`, in any order.
        path: Parquet file; its parent must exist.

    Raises:
        ValueError: If columns are missing or unknown, or a sample is listed twice.
    """
    expected = MANIFEST_SCHEMA.names
    if set(frame.columns) != set(expected):
        wrong = sorted(set(frame.columns) ^ set(expected))
        raise ValueError(
            f"{path}: expected the manifest's columns, got missing or unknown {', '.join(wrong)}"
        )
    twice = frame["sample_id"][frame["sample_id"].duplicated()]
    if len(twice):
        raise ValueError(f"{path}: expected each sample once, got {twice.iloc[0]} twice")
    ordered = frame[expected].sort_values(["source", "sample_id"], kind="stable")
    table = pa.Table.from_pandas(ordered, MANIFEST_SCHEMA, preserve_index=False)
    # Without pandas' own metadata, which names its version.
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def read_manifest(path: Path) -> pd.DataFrame:
    """Returns a manifest's rows; missing numbers and texts are null.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a manifest.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a manifest, got nothing there")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid:
        raise ValueError(f"{path}: expected a Parquet file, got another or a damaged one") from None
    if table.schema.names != MANIFEST_SCHEMA.names:
        raise ValueError(
            f"{path}: expected the manifest's columns, got {', '.join(table.schema.names)}"
        )
    frame: pd.DataFrame = table.to_pandas()
    return frame


def sample_name(source: str, reader_id: str) -> str:
    """Returns a name of a sample that fits a tar: `[A-Za-z0-9_-]`, at most 200.

    `<source>-<reader's id>` with every other character replaced by an underscore; if that is too
    long, as `marked_name`. Two samples of a source may meet: then both take their marked names.

    Args:
        source: Name of the source, `[A-Za-z0-9_]+`: without a hyphen, so that sources cannot meet.
        reader_id: Name within the source.

    Raises:
        ValueError: If the source's name has other characters.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+", source):
        raise ValueError(f"source {source!r}: expected a name of letters, digits and underscores")
    name = f"{source}-" + re.sub(r"[^A-Za-z0-9_-]", "_", reader_id)
    return name if len(name) <= _ID_LENGTH else marked_name(name, reader_id)


def marked_name(name: str, reader_id: str) -> str:
    """Returns a name that ends in 8 digits of a hash of the reader's id."""
    mark = hashlib.sha256(reader_id.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{name[: _ID_LENGTH - 9]}-{mark}"


def extra_files(row_text: str) -> tuple[str, ...]:
    """Returns the paths of a row's `extra` column."""
    return tuple(json.loads(row_text))
