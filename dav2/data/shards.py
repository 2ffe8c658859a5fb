"""Labelled images in plain WebDataset tars, found through a Parquet index of byte spans.

Axes: H, W pixels of the stored image; h, w pixels of its label.
A shard holds, for each sample and side by side, `<id>.jpg`, its label (`<id>.depth.png`, or as its
codec calls it) and `<id>.json`. Any WebDataset tool streams it; `ShardReader` reads it in place at
any index, in a folder or a bucket, and never extracts.
"""

import json
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
from dav2.data.storage import LocalStorage, Storage, member_path, open_storage
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

INDEX_NAME = "manifest.parquet"

_READ_COLUMNS = INDEX_SCHEMA.names[: INDEX_SCHEMA.names.index("label_min")]
_PARTS = ("jpg", "depth", "json")
_BLOCK = 512
_SAMPLE_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}\.tar")
_MAX_MEMBER_BYTES = 256 * 1024**2
_MAX_JSON_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 8 * _BLOCK  # of a member, a long name and the padding included
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
    index: pd.DataFrame = _read_table(LocalStorage(path.parent)).to_pandas()
    return index


class ShardReader:
    """Map-style access to labelled images: any index, any order, from any number of processes.

    A sample is one read, ranged where the shards lie in a bucket. Nothing stays open.
    """

    def __init__(self, root: Path | str | Storage) -> None:
        """Opens a folder with `manifest.parquet` and `shards/*.tar`, or a copy of it in a bucket.

        Args:
            root: Folder, or `s3://bucket/prefix`.

        Raises:
            FileNotFoundError: If the index or a shard that it names is missing.
            ValueError: If the index is damaged or points outside its shards.
            OSError: If a bucket cannot be read.
        """
        self._storage = open_storage(root)
        table = _read_table(self._storage).combine_chunks()
        self._table = table.select(_READ_COLUMNS)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """Names of all samples, in the order of their indices."""
        return tuple(self._table["sample_id"].to_pylist())

    def read(self, index: int) -> LabelledImage:
        """Returns the sample at a place of the index.

        Raises:
            IndexError: If there is no such place.
            FileNotFoundError: If its shard has gone.
            ValueError: If the shard does not hold there what the index says.
            OSError: If a bucket cannot be read, after retries.
        """
        if not 0 <= index < len(self):
            raise IndexError(
                f"{self._storage.where()}: expected an index below {len(self)}, got {index}"
            )
        row = {name: self._table[name][index].as_py() for name in _READ_COLUMNS}
        sample_id = row["sample_id"]
        where = f"{row['shard']}: {sample_id}"
        first, data = self._bytes_of(row, where)
        jpeg = _member(data, first, row, "jpg", ".jpg", where)
        described = _member(data, first, row, "json", ".json", where)
        codec, minimum, maximum = _parse_description(described, sample_id, where)
        packed = _member(data, first, row, "depth", label_suffix(codec), where)
        try:
            image = decode_image(jpeg)
            label = decode_label(packed, codec, minimum=minimum, maximum=maximum)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        got = (*image.shape[:2], *label.shape)
        expected = (row["image_height"], row["image_width"], row["height"], row["width"])
        if got != expected:
            raise ValueError(
                f"{where}: expected image and label of heights and widths {expected}, got {got}"
            )
        return LabelledImage(sample_id=sample_id, image=image, relative_depth=label)

    def _bytes_of(self, row: dict[str, Any], where: str) -> tuple[int, bytes]:
        """Returns the first byte of a sample, its members' headers included, and its bytes."""
        first = min(row[f"{part}_offset"] for part in _PARTS) - _BLOCK
        end = max(row[f"{part}_offset"] + row[f"{part}_bytes"] for part in _PARTS)
        name = f"shards/{row['shard']}"
        member = member_path(name, first_byte=first, num_bytes=end - first, name=row["sample_id"])
        together = sum(row[f"{part}_bytes"] + _MAX_HEADER_BYTES for part in _PARTS)
        if end - first > together:
            raise ValueError(
                f"{where}: expected its members side by side, within {together} bytes, "
                f"got them in {end - first}"
            )
        try:
            return first, self._storage.read(member, max_bytes=together)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _member(
    data: bytes, first: int, row: dict[str, Any], part: str, suffix: str, where: str
) -> bytes:
    """Returns a member of a sample whose bytes begin at byte `first` of its shard."""
    start, size = row[f"{part}_offset"] - first, row[f"{part}_bytes"]
    name = row["sample_id"] + suffix
    try:
        header = tarfile.TarInfo.frombuf(data[start - _BLOCK : start], "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: expected a tar member {name}, got {_line(error)}") from None
    # The header beside the data holds the first 100 characters; a longer name precedes it.
    if (header.name, header.size, header.type) != (name[:100], size, tarfile.REGTYPE):
        raise ValueError(
            f"{where}: expected the regular member {name} of {size} bytes, "
            f"got {header.name!r} of {header.size} bytes"
        )
    return data[start : start + size]


def _read_table(storage: Storage) -> pa.Table:
    """Returns the index of a folder of shards, checked against the shards that are there."""
    where = storage.where(INDEX_NAME)
    if storage.status(INDEX_NAME) is None:
        raise FileNotFoundError(f"{where}: expected the index of a folder of shards, got no file")
    try:
        with storage.open(INDEX_NAME) as stream:
            table = pq.read_table(stream)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{where}: expected Parquet, got {_line(error)}") from None
    if not table.schema.equals(INDEX_SCHEMA):
        raise ValueError(
            f"{where}: expected the columns {INDEX_SCHEMA.names}, got {table.schema.names}"
        )
    if table.num_rows != len(table["sample_id"].unique()):
        raise ValueError(f"{where}: expected each sample once, got some twice")
    _check_spans(table, _shard_bytes(table, storage, where), where)
    return table


def _shard_bytes(table: pa.Table, storage: Storage, where: str) -> dict[str, int]:
    """Returns the size of each shard that an index names."""
    names = table["shard"].unique().to_pylist()
    for name in names:
        if not _SHARD_NAME.fullmatch(name):
            raise ValueError(f"{where}: expected names as shard-01.tar, got {name!r:.220}")
    try:
        found = {file.path: file.bytes for file in storage.list_files("shards")} if names else {}
    except FileNotFoundError:
        found = {}
    for name in names:
        if f"shards/{name}" not in found:
            raise FileNotFoundError(f"{where}: expected the shard {name} beside it, got no file")
    return {name: found[f"shards/{name}"] for name in names}


def _check_spans(table: pa.Table, sizes: dict[str, int], where: str) -> None:
    shards = table["shard"].combine_chunks().dictionary_encode()
    of_names = np.array([sizes[name] for name in shards.dictionary.to_pylist()], np.int64)
    shard_bytes = of_names[np.asarray(shards.indices)] if sizes else of_names
    for part in _PARTS:
        offset, size = table[f"{part}_offset"].to_numpy(), table[f"{part}_bytes"].to_numpy()
        fits = (offset >= _BLOCK) & (offset % _BLOCK == 0) & (size >= 0) & (size <= _limit(part))
        fits &= offset <= shard_bytes - size
        if not fits.all():
            row = int(np.argmin(fits))
            raise ValueError(
                f"{where}: expected spans inside their shards, got {part} of "
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
