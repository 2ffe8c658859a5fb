"""Size, speed and error of the codecs of labels (`python -m benchmarks.codecs`).

Rates are of processor time, all codecs in turns in one process: ratios hold on a busy machine too.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.model import machine
from dav2.data.png16 import decode_png16, encode_png16
from dav2.data.shards import ShardReader
from dav2.labeling.codec import CodecName, decode_label, encode_label
from dav2.metrics.depth import Protocol, align, depth_errors
from dav2.metrics.pixels import evaluated_pixels

SIZE = (518, 686)
# Read as inverse depth from 0 to 1 / 0.5 m, evaluated as KITTI's and NYUv2's protocols together do.
_NEAREST_M, _FARTHEST_M = 0.5, 80.0
# What a network adds to a smooth map: errors as wide as patches, and noise, shares of the range.
_PATCH_PX, _PATCH_ERROR, _NOISE = 7, 2e-3, 1e-4


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to store a map with values between 0 and 1, both of which it has."""

    title: str
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes], np.ndarray]


@dataclass(slots=True)
class Found:
    """What one candidate gave for all maps."""

    num_bytes: int = 0
    encode_s: float = float("inf")
    decode_s: float = float("inf")
    worst_error: float = 0.0
    """Share of the range, as is the mean."""
    mean_error: float = 0.0
    abs_rel: float = 0.0
    """Mean over the maps."""


def codecs() -> Iterator[Candidate]:
    """Yields every codec that `pseudo_label.codec` may name."""
    for name in get_args(CodecName):
        yield Candidate(
            name,
            partial(_encoded, codec=name),
            partial(decode_label, codec=name, minimum=0.0, maximum=1.0),
        )


def _encoded(values: np.ndarray, codec: CodecName) -> bytes:
    return encode_label(values, codec).data


def others() -> Iterator[Candidate]:
    """Yields ways that were weighed and left."""
    library = import_module("imagecodecs")
    jpeg_xl = partial(library.jpegxl_encode, lossless=True, effort=1, numthreads=1)
    yield _of_integers("PNG, 12 bits", 12, encode_png16, decode_png16)
    yield _of_integers("JPEG XL, effort 1, 16 bits", 16, jpeg_xl, library.jpegxl_decode)
    yield _of_integers(
        "JPEG XL, effort 1, 12 bits",
        12,
        partial(jpeg_xl, bitspersample=12),
        library.jpegxl_decode,
    )
    yield _of_integers(
        "JPEG-LS, 16 bits", 16, partial(library.jpegls_encode, level=0), library.jpegls_decode
    )
    yield _of_integers(
        "JPEG-LS, off by 8 of 65,535",
        16,
        partial(library.jpegls_encode, level=8),
        library.jpegls_decode,
    )


def _of_integers(
    title: str, bits: int, pack: Callable[[Any], bytes], unpack: Callable[[bytes], Any]
) -> Candidate:
    largest = 2**bits - 1

    def encode(values: np.ndarray) -> bytes:
        return pack(np.rint(values.astype(np.float64) * largest).astype(np.uint16))

    def decode(data: bytes) -> np.ndarray:
        return np.asarray(np.asarray(unpack(data), np.float64) / largest, np.float32)

    return Candidate(title, encode, decode)


def label_sets(folder: Path, count: int) -> dict[str, list[np.ndarray]]:
    """Returns labels of a folder of shards: as they are, enlarged, and with a network's errors."""
    reader = ShardReader(folder)
    chosen = [reader.read(n * len(reader) // count).relative_depth for n in range(count)]
    numbers = np.random.default_rng(0)
    rough = []
    for label in chosen:
        coarse = numbers.standard_normal([side // _PATCH_PX for side in SIZE]).astype(np.float32)
        noise = numbers.standard_normal(SIZE).astype(np.float32)
        rough.append(_enlarged(label) + _PATCH_ERROR * _enlarged(coarse, whole=False))
        rough[-1] += _NOISE * noise
    height, width = chosen[0].shape
    return {
        f"labels as they are, the first {height} x {width}": [_spread(label) for label in chosen],
        f"enlarged to {SIZE[0]} x {SIZE[1]}": [_enlarged(label) for label in chosen],
        "enlarged, with a network's errors": [_spread(label) for label in rough],
    }


def given_map(path: Path) -> np.ndarray:
    """Returns the first array of a .npz file, enlarged; where it is not finite, its smallest."""
    values = next(iter(np.load(path).values())).astype(np.float32)
    finite = np.isfinite(values)
    return _enlarged(np.where(finite, values, values[finite].min()))


def _enlarged(values: np.ndarray, *, whole: bool = True) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    resized = F.interpolate(tensor, size=SIZE, mode="bicubic", align_corners=True)[0, 0].numpy()
    return _spread(resized) if whole else resized


def _spread(values: np.ndarray) -> np.ndarray:
    least, most = values.min(), values.max()
    return np.asarray((values - least) / (most - least), np.float32)


def measure(
    candidates: Sequence[Candidate], maps: Sequence[np.ndarray], *, rounds: int
) -> dict[str, Found]:
    """Returns what each candidate gives; of the times the best of all rounds."""
    found = {candidate.title: Found() for candidate in candidates}
    for _ in range(rounds):
        for candidate in candidates:
            result = found[candidate.title]
            started = time.process_time()
            files = [candidate.encode(values) for values in maps]
            encoded = time.process_time()
            decoded = [candidate.decode(data) for data in files]
            decoded_at = time.process_time()
            result.encode_s = min(result.encode_s, encoded - started)
            result.decode_s = min(result.decode_s, decoded_at - encoded)
    for candidate in candidates:
        files = [candidate.encode(values) for values in maps]
        decoded = [candidate.decode(data) for data in files]
        _compare(found[candidate.title], files, decoded, maps)
    return found


def _compare(
    result: Found,
    files: Sequence[bytes],
    decoded: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
) -> None:
    errors = [np.abs(back.astype(np.float64) - of) for back, of in zip(decoded, maps, strict=True)]
    result.num_bytes = sum(map(len, files))
    result.worst_error = max(float(error.max()) for error in errors)
    result.mean_error = float(np.mean([error.mean() for error in errors]))
    pairs = zip(decoded, maps, strict=True)
    result.abs_rel = float(np.mean([_abs_rel(back, of) for back, of in pairs]))


def _abs_rel(pred: np.ndarray, exact: np.ndarray) -> float:
    """Returns the AbsRel of a map aligned to the exact one, read as inverse depth to 0.5 m."""
    with np.errstate(divide="ignore"):
        depth = _NEAREST_M / exact.astype(np.float64)
    protocol = Protocol("inverse_depth", "none", _NEAREST_M, _FARTHEST_M)
    valid = np.ones(depth.shape, bool)
    pixels = evaluated_pixels(depth, valid, sky=None, protocol=protocol)
    aligned = align(pred, depth, pixels=pixels, protocol=protocol)
    return depth_errors(aligned.depth, depth, pixels=pixels)["abs_rel"]


def print_table(title: str, found: Mapping[str, Found], num_pixels: int) -> None:
    """Prints sizes, ratios of rates to the first candidate's, and errors."""
    reference = next(iter(found.values()))
    print(f"\n{title}, {num_pixels / 1e6:.1f} megapixels\n")
    print(
        "| codec | B/px | encode, megapixels/s | times the first | decode, megapixels/s | "
        "times the first | worst error | mean error | AbsRel |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, one in found.items():
        print(
            f"| {name} | {one.num_bytes / num_pixels:.3f} | {num_pixels / one.encode_s / 1e6:.0f} "
            f"| {reference.encode_s / one.encode_s:.2f} | {num_pixels / one.decode_s / 1e6:.0f} | "
            f"{reference.decode_s / one.decode_s:.2f} | {one.worst_error:.1e} | "
            f"{one.mean_error:.1e} | {one.abs_rel:.1e} |"
        )


def main(arguments: Sequence[str]) -> None:
    """Prints one table for each set of maps."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    print(machine("cpu"))
    candidates = [*codecs(), *(others() if options.others else [])]
    sets = label_sets(options.labels, options.num_labels)
    sets |= {path.stem: [given_map(path)] for path in options.maps}
    for title, maps in sets.items():
        found = measure(candidates, maps, rounds=options.rounds)
        print_table(title, found, sum(values.size for values in maps))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Size, speed and error of the codecs of labels.")
    parser.add_argument(
        "--labels", type=Path, default=Path("data/training/pseudo"), help="folder of shards"
    )
    parser.add_argument("--num-labels", type=int, default=8)
    parser.add_argument(
        "--maps", nargs="*", type=Path, default=[], help=".npz files, an inverse depth each"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--others", action="store_true", help="JPEG XL, JPEG-LS and PNG, too")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
