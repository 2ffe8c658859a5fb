"""Load on a served model: rate, latency, memory, and what it answers to hostile requests.

    python -m benchmarks.serving depth-relative-vit64x4@champion --seconds 20 --clients 1 2 4

Starts `python -m stages.serve` on a free port of this machine and ends it.
"""

import argparse
import base64
import http.client
import json
import math
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import psutil
from PIL import Image

HOST = "127.0.0.1"
START_LIMIT_S = 180.0


def main(arguments: Sequence[str]) -> None:
    """Prints a table of rates and one of hostile requests."""
    given = _parse(arguments)
    height, width = given.size
    body = request(photograph(height, width))
    print(f"{given.version}, images of {width} x {height}, {len(body) / 1e3:.0f} kB a request\n")
    with served(given.version) as (port, server):
        print("| clients | requests/s | median ms | 95 % ms | 99 % ms | errors | memory MB |")
        print("|---|---|---|---|---|---|---|")
        for clients in given.clients:
            latencies, num_errors = load(port, body, clients=clients, seconds=given.seconds)
            quantiles = [1e3 * quantile(latencies, q) for q in (0.5, 0.95, 0.99)]
            rate = len(latencies) / given.seconds
            shown = " | ".join(f"{value:.0f}" for value in quantiles)
            print(f"| {clients} | {rate:.1f} | {shown} | {num_errors} | {memory_mb(server):.0f} |")
        print("\n| request | status | answer |\n|---|---|---|")
        for name, content in hostile().items():
            status, text = post(port, content)
            print(f"| {name} | {status} | {json.loads(text).get('message', '')[:90]} |")
        status, _ = post(port, body)
        print(f"\nAfter all of them: {status}, {memory_mb(server):.0f} MB")


def load(port: int, body: bytes, *, clients: int, seconds: float) -> tuple[list[float], int]:
    """Returns the latencies of what was answered, seconds, and the number of other answers."""
    latencies: list[float] = []
    errors: list[int] = []
    until_s = time.monotonic() + seconds

    def ask() -> None:
        while time.monotonic() < until_s:
            begin_s = time.monotonic()
            status, _ = post(port, body)
            if status == 200:
                latencies.append(time.monotonic() - begin_s)
            else:
                errors.append(status)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, len(errors)


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that at least a share of them does not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def post(port: int, body: bytes) -> tuple[int, bytes]:
    """Returns status and body of the answer to one request."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except BrokenPipeError:  # it refused while we were sending
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def request(*images: bytes) -> bytes:
    """Returns what MLflow's scoring server takes."""
    rows = [[base64.b64encode(image).decode("ascii")] for image in images]
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()


def photograph(height: int, width: int) -> bytes:
    """Returns a JPEG of noise over a slope, which compresses like a photograph."""
    rng = np.random.default_rng(0)
    slope = np.linspace(40, 200, width)[None, :, None]
    noise = rng.normal(0, 12, (height // 4 + 1, width // 4 + 1, 3)).repeat(4, 0).repeat(4, 1)
    values = np.clip(slope + noise[:height, :width], 0, 255).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(values).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def hostile() -> dict[str, bytes]:
    """Returns requests that a server must refuse and survive, by what they are."""
    whole = photograph(240, 320)
    return {
        "no JSON": b"{",
        "JSON nested 200,000 deep": b"[" * 200_000,
        "no base64": b'{"dataframe_split":{"columns":["image"],"data":[["*"]]}}',
        "a number for an image": b'{"dataframe_split":{"columns":["image"],"data":[[5]]}}',
        "another column": b'{"dataframe_split":{"columns":["picture"],"data":[["AAAA"]]}}',
        "no image": request(),
        "text for an image": request(b"depth, please"),
        "a truncated JPEG": request(whole[: len(whole) // 2]),
        "a PNG of 900 megapixels": request(_claiming(30_000, 30_000)),
        "100 images": request(*[whole] * 100),
        "a body of 100 MB": b" " * 100_000_000,
    }


def _claiming(height: int, width: int) -> bytes:
    """Returns a PNG whose header claims a size that its few bytes would unpack to."""
    stream = BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@contextmanager
def served(version: str) -> Iterator[tuple[int, psutil.Process]]:
    """Yields the port of a server and its process."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "stages.serve", version, "--host", HOST, "--port", str(port)]
    begin_s = time.monotonic()
    process = subprocess.Popen(command)
    try:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() - begin_s > START_LIMIT_S:
                raise SystemExit(f"{' '.join(command)}: expected an answer, got none")
            time.sleep(0.2)
        print(f"Ready after {time.monotonic() - begin_s:.0f} s\n")
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def memory_mb(server: psutil.Process) -> float:
    """Returns the resident memory of a process, megabytes."""
    return float(server.memory_info().rss / 1e6)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("version", help="as depth-relative-vit64x4@champion")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each row (20)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4], help="(1 2 4)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=[480, 640], metavar=("HEIGHT", "WIDTH")
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
