"""Labelled images in plain WebDataset tars, found through a Parquet index of byte spans.

Axes: H, W pixels of the stored image; h, w pixels of its label.
A shard holds, for each sample and side by side, `<id>.jpg`, its label (`<id>.depth.png`, or as its
codec calls it) and `<id>.json`. Any WebDataset tool streams it; `ShardReader` reads it in place at
any index, and never extracts.
"""

import json
import os
import re
import tarfile
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, cast, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, UInt8

from dav2.data.images import decode_image
from dav2.labeling.codec import CodecName, EncodedLabel, decode_label, label_suffix

INDEX_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),  # name below `shards/`
        *(
            pa.field(f"{part}_{value}", pa.int64(), nullable=False)
            for part in ("jpg", "depth", "json")
            for value in ("offset", "bytes")
        ),
        pa.field("image_width", pa.int32(), nullable=False),
        pa.field("image_height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),  # of the label
        pa.field("height", pa.int32(), nullable=False),
        pa.field("label_min", pa.float64(), nullable=False),
        pa.field("label_max", pa.float64(), nullable=False),
        pa.field("label_p01", pa.float64(), nullable=False),
        pa.field("label_p50", pa.float64(), nullable=False),
        pa.field("label_p99", pa.float64(), nullable=False),
        pa.field("zero_fraction", pa.float64(), nullable=False),
        pa.field("degenerate", pa.bool_(), nullable=False),
        pa.field("ramp_correlation", pa.float64(), nullable=False),
        pa.field("flip_inconsistency", pa.float64()),  # null: not measured for this sample
        pa.field("scale_inconsistency", pa.float64()),
    ]
)
"""Columns of `manifest.parquet` beside the shards; `dav2.labeling.quality` explains the last."""

_READ_COLUMNS = INDEX_SCHEMA.names[: INDEX_SCHEMA.names.index("label_min")]
_PARTS = ("jpg", "depth", "json")
_BLOCK = 512
_SAMPLE_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}\.tar")
_MAX_MEMBER_BYTES = 256 * 1024**2
_MAX_JSON_BYTES = 64 * 1024
_MAX_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with its label; resize the image to the label's grid before cropping the two."""

    sample_id: str
    image: UInt8[np.ndarray, "H W 3"]
    relative_depth: Float32[np.ndarray, "h w"]
    """Affine-invariant inverse depth, higher is closer; h and w are multiples of 14 near H, W."""


class ShardWriter:
    """Writes samples to one tar; the same samples in the same order give the same bytes.

    Write to a temporary path: a tar is complete only after the block has ended without an error.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BufferedWriter = path.open("wb")
        self._position = 0
        self._names: set[str] = set()

    def __enter__(self) -> "ShardWriter":  # `Self` is beyond beartype here
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._write(bytes(2 * _BLOCK))
            self._write(bytes(-self._position % tarfile.RECORDSIZE))
        self._stream.close()

    def add(
        self, sample_id: str, *, jpeg: bytes, label: EncodedLabel, description: bytes
    ) -> dict[str, int]:
        """Appends one sample.

        Args:
            sample_id: Letters, digits, `_` and `-`, unique in the shard.
            jpeg: The image.
            label: Its bytes and codec.
            description: What the label means, as UTF-8 JSON.

        Returns:
            The members' byte spans: `<part>_offset` and `<part>_bytes` for jpg, depth and json.

        Raises:
            ValueError: If the id is not allowed or was used, or if a member is too large.
        """
        where = f"{self._path.name}: {sample_id!r:.220}"
        if not _SAMPLE_ID.fullmatch(sample_id):
            raise ValueError(
                f"{where}: expected 1 to 200 of A-Z a-z 0-9 _ - as sample id, got others"
            )
        if sample_id in self._names:
            raise ValueError(f"{where}: expected each sample once, got it twice")
        members = {"jpg": jpeg, "depth": label.data, "json": description}
        for part, data in members.items():
            if len(data) > _limit(part):
                raise ValueError(
                    f"{where}: expected at most {_limit(part)} bytes of {part}, got {len(data)}"
                )
        self._names.add(sample_id)
        spans: dict[str, int] = {}
        for part, data in members.items():
            header = tarfile.TarInfo(sample_id + _suffix(part, label.codec))
            header.size = len(data)  # every other field keeps its fixed default: no time, no owner
            self._write(header.tobuf(tarfile.PAX_FORMAT))
            spans |= {f"{part}_offset": self._position, f"{part}_bytes": len(data)}
            self._write(data)
            self._write(bytes(-self._position % _BLOCK))
        return spans

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._position += len(data)


def write_index(rows: pd.DataFrame, path: Path) -> None:
    """Writes index rows to Parquet, sorted by sample, with deterministic bytes.

    Args:
        rows: One row per sample; exactly the columns of `INDEX_SCHEMA`, in any order.
        path: File to write.

    Raises:
        ValueError: If a column is missing, unknown or of another type, or a sample appears twice.
    """
    if set(rows.columns) != set(INDEX_SCHEMA.names):
        raise ValueError(
            f"{path}: expected the columns {INDEX_SCHEMA.names}, got {list(rows.columns)}"
        )
    if repeated := rows["sample_id"][rows["sample_id"].duplicated()].tolist():
        raise ValueError(f"{path}: expected each sample once, got {repeated[0]!r} twice")
    rows = rows.sort_values("sample_id")[INDEX_SCHEMA.names]
    try:
        table = pa.Table.from_pandas(rows, schema=INDEX_SCHEMA, preserve_index=False)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: expected rows of the index, got {_line(error)}") from None
    pq.write_table(table.replace_schema_metadata(None), path)


def read_index(path: Path) -> pd.DataFrame:
    """Returns the index of a folder of shards, checked.

    Args:
        path: `manifest.parquet` beside the folder `shards`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the columns differ from `INDEX_SCHEMA`, a sample appears twice, a shard's
            name leads elsewhere, or a span cannot lie in its shard.
    """
    index: pd.DataFrame = _read_table(path).to_pandas()
    return index


class ShardReader:
    """Map-style access to labelled images: any index, any order, from any number of processes.

    Holds one open file per shard used and no position, so that copies in other processes and
    threads do not disturb each other.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a folder with `manifest.parquet` and `shards/*.tar`.

        Raises:
            FileNotFoundError: If the index or a shard that it names is missing.
            ValueError: If the index is damaged or points outside its shards.
        """
        self._folder = folder
        table = _read_table(folder / "manifest.parquet").combine_chunks()
        self._table = table.select(_READ_COLUMNS)
        self._descriptors: dict[str, int] = {}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptors": {}}

    def __del__(self) -> None:
        for descriptor in self.__dict__.get("_descriptors", {}).values():
            os.close(descriptor)

    def read(self, index: int) -> LabelledImage:
        """Returns the sample at a place of the index.

        Raises:
            IndexError: If there is no such place.
            FileNotFoundError: If its shard has gone.
            ValueError: If the shard does not hold there what the index says.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self._folder}: expected an index below {len(self)}, got {index}")
        row = {name: self._table[name][index].as_py() for name in _READ_COLUMNS}
        sample_id = row["sample_id"]
        where = f"{row['shard']}: {sample_id}"
        jpeg = self._member(row, "jpg", ".jpg", where)
        described = self._member(row, "json", ".json", where)
        codec, minimum, maximum = _parse_description(described, sample_id, where)
        data = self._member(row, "depth", label_suffix(codec), where)
        try:
            image = decode_image(jpeg)
            label = decode_label(data, codec, minimum=minimum, maximum=maximum)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        got = (*image.shape[:2], *label.shape)
        expected = (row["image_height"], row["image_width"], row["height"], row["width"])
        if got != expected:
            raise ValueError(
                f"{where}: expected image and label of heights and widths {expected}, got {got}"
            )
        return LabelledImage(sample_id=sample_id, image=image, relative_depth=label)

    def _member(self, row: dict[str, Any], part: str, suffix: str, where: str) -> bytes:
        offset, size = row[f"{part}_offset"], row[f"{part}_bytes"]
        name = row["sample_id"] + suffix
        block = os.pread(self._open(row["shard"]), size + _BLOCK, offset - _BLOCK)
        try:
            header = tarfile.TarInfo.frombuf(block[:_BLOCK], "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise ValueError(f"{where}: expected a tar member {name}, got {_line(error)}") from None
        # The header beside the data holds the first 100 characters; a longer name precedes it.
        got = (header.name, header.size, header.type, len(block))
        if got != (name[:100], size, tarfile.REGTYPE, size + _BLOCK):
            raise ValueError(
                f"{where}: expected the regular member {name} of {size} bytes, "
                f"got {header.name!r} of {header.size} bytes, {len(block)} read"
            )
        return block[_BLOCK:]

    def _open(self, shard: str) -> int:
        if shard not in self._descriptors:
            place = self._folder / "shards" / shard
            self._descriptors[shard] = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptors[shard]


def _read_table(path: Path) -> pa.Table:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the index of a folder of shards, got no file")
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected Parquet, got {_line(error)}") from None
    if not table.schema.equals(INDEX_SCHEMA):
        raise ValueError(
            f"{path}: expected the columns {INDEX_SCHEMA.names}, got {table.schema.names}"
        )
    _check_names(table, path)
    _check_spans(table, path)
    return table


def _check_names(table: pa.Table, path: Path) -> None:
    if table.num_rows != len(table["sample_id"].unique()):
        raise ValueError(f"{path}: expected each sample once, got some twice")
    for shard in table["shard"].unique().to_pylist():
        if not _SHARD_NAME.fullmatch(shard):
            raise ValueError(f"{path}: expected names as shard-01.tar, got {shard!r:.220}")
        place = path.parent / "shards" / shard
        if not place.is_file():
            raise FileNotFoundError(f"{path}: expected the shard {shard} beside it, got no file")


def _check_spans(table: pa.Table, path: Path) -> None:
    shards = table["shard"].combine_chunks().dictionary_encode()
    names = shards.dictionary.to_pylist()
    sizes = np.array([(path.parent / "shards" / name).stat().st_size for name in names], np.int64)
    shard_bytes = sizes[np.asarray(shards.indices)] if names else sizes
    for part in _PARTS:
        offset, size = table[f"{part}_offset"].to_numpy(), table[f"{part}_bytes"].to_numpy()
        fits = (offset >= _BLOCK) & (offset % _BLOCK == 0) & (size >= 0) & (size <= _limit(part))
        fits &= offset <= shard_bytes - size
        if not fits.all():
            row = int(np.argmin(fits))
            raise ValueError(
                f"{path}: expected spans inside their shards, got {part} of "
                f"{table['sample_id'][row]} at {offset[row]} with {size[row]} bytes"
            )


def _parse_description(data: bytes, sample_id: str, where: str) -> tuple[CodecName, float, float]:
    try:
        description = json.loads(data)
        values = (float(description["min"]), float(description["max"]))
        codec, is_of_sample = description["codec"], description["sample_id"] == sample_id
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{where}: expected a label's JSON, got {_line(error)}") from None
    if codec not in get_args(CodecName):
        raise ValueError(
            f"{where}: expected a codec of {', '.join(get_args(CodecName))}, got {codec!r:.100}"
        )
    if not is_of_sample or not all(abs(value) <= _MAX_FLOAT32 for value in values):  # False for NaN
        raise ValueError(f"{where}: expected JSON of this sample with a finite range, got another")
    return cast(CodecName, codec), *values


def _suffix(part: str, codec: CodecName) -> str:
    return label_suffix(codec) if part == "depth" else f".{part}"


def _limit(part: str) -> int:
    return _MAX_JSON_BYTES if part == "json" else _MAX_MEMBER_BYTES


def _line(error: Exception) -> str:
    """Returns an error of a library as one short line."""
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
