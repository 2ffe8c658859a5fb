"""Divides a manifest into shards and a shard into batches, by content alone."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """What one shard will hold, and what decides its bytes."""

    name: str
    """`<source>-b<bits>`: the samples of a source whose hashes start with these bits."""
    key: str
    """16 hexadecimal digits over the recipe and over every sample's content."""
    rows: tuple[int, ...]
    """Places in the manifest, in the order of sample ids."""


def plan_shards(
    manifest: pd.DataFrame, *, samples_per_shard: int, recipe: str
) -> list[PlannedShard]:
    """Divides samples into shards that stay as they are when others are added.

    Each source has shards of its own. Within a source a shard holds the samples whose hashed id
    starts with given bits; a shard that would hold too many splits in two by the next bit. So a new
    photograph changes one shard (or splits it), and a new source changes none.

    Args:
        manifest: Rows with sample_id, source, content_hash and decoder.
        samples_per_shard: Most samples in a shard. On average a half of it to all, by the size of
            a source, as the shards of one split almost together.
        recipe: Fingerprint of all that decides the bytes besides the images.

    Returns:
        Shards sorted by name.

    Raises:
        ValueError: If the manifest is empty or names a sample twice.
    """
    if manifest.empty:
        raise ValueError("manifest: expected at least one sample to label, got none")
    ids = manifest["sample_id"].to_numpy(dtype=object)
    if len(set(ids)) != len(ids):
        repeated = manifest["sample_id"][manifest["sample_id"].duplicated()].iloc[0]
        raise ValueError(f"manifest: expected each sample once, got {repeated!r} twice")
    content = manifest[["sample_id", "content_hash", "decoder"]].to_numpy(dtype=object)
    shards = []
    for source, group in manifest.reset_index(drop=True).groupby("source", sort=True):
        places = group.index.to_numpy()
        for bits, chosen in _leaves([str(ids[place]) for place in places], samples_per_shard):
            rows = tuple(sorted((int(places[i]) for i in chosen), key=lambda row: str(ids[row])))
            text = json.dumps([recipe, [content[row].tolist() for row in rows]])
            key = hashlib.sha256(text.encode()).hexdigest()[:16]
            shards.append(PlannedShard(name=f"{source}-b{bits}", key=key, rows=rows))
    return sorted(shards, key=lambda shard: shard.name)


def plan_batches(
    shard: PlannedShard, size_of: Callable[[int], tuple[int, int]], *, batch_size: int
) -> list[tuple[int, ...]]:
    """Divides a shard into batches of one input size each.

    Args:
        shard: The shard.
        size_of: Gives the input size of a place in the manifest, height and width in pixels.
        batch_size: Most samples in a batch.

    Returns:
        Places in the manifest, batch by batch: sizes ascending, sample ids ascending within one.
    """
    by_size: dict[tuple[int, int], list[int]] = {}
    for row in shard.rows:
        by_size.setdefault(size_of(row), []).append(row)
    return [
        tuple(rows[start : start + batch_size])
        for _, rows in sorted(by_size.items())
        for start in range(0, len(rows), batch_size)
    ]


def _leaves(ids: list[str], capacity: int) -> list[tuple[str, list[int]]]:
    """Returns the leaves of the binary tree over hashed ids: path in bits, places in `ids`."""
    hashes = np.array(
        [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in ids],
        dtype=np.uint64,
    )
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    leaves = []
    waiting = [(0, len(ids), "")]
    while waiting:
        start, stop, bits = waiting.pop()
        if stop - start <= capacity or len(bits) == 64:
            if stop > start:
                leaves.append((bits, order[start:stop].tolist()))
            continue
        first_one = np.uint64(int((bits + "1").ljust(64, "0"), 2))
        middle = start + int(np.searchsorted(ordered[start:stop], first_one))
        waiting += [(start, middle, bits + "0"), (middle, stop, bits + "1")]
    return leaves
