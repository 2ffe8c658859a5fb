"""Serves a registered model over HTTP, by MLflow's scoring server behind limits on requests.

`python -m stages.serve depth-relative-vits@champion --port 8080`; docs/serving.md has examples.
`mlflow models serve` gives the same answers, but reads requests of any size and any number.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from stages.drift import DriftParams, Reference, Watched
from stages.params import Params, load
from stages.program import run as run_program
from stages.register import IMAGES, SETTINGS, ServedModelParams
from stages.registry import connect, model_uri

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)


class ServerParams(Params):
    """How much the server takes at once; mlflow/serving.yaml explains each."""

    max_body_bytes: PositiveInt
    max_concurrent: PositiveInt


class Guarded:
    """An ASGI application whose requests are limited in size and whose errors are one line."""

    def __init__(self, app: App, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request; one that is too large is refused before it is held in memory."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._read(dict(scope["headers"]), receive)
        if body is None:
            message = f"request: expected at most {self._max_body_bytes} bytes, got more"
            await _answer(send, 413, {"error_code": "REQUEST_TOO_LARGE", "message": message})
            return
        errors = _Errors(send)
        try:
            await self._app(scope, _replayed(body, receive), errors.send)
        except RecursionError:  # of Python's JSON parser
            errors.status, errors.body = 400, b"request: expected JSON, got too many nested lists"
        await errors.finish()

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """Returns the request's body; None of one above the limit, announced or not."""
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_body_bytes:
            return None
        parts: list[bytes] = []
        is_last = False
        while not is_last:
            message = await receive()
            parts.append(message.get("body", b""))
            is_last = not message.get("more_body", False)
            if sum(map(len, parts)) > self._max_body_bytes:
                return None
        return b"".join(parts)


def main(arguments: Sequence[str]) -> None:
    """Serves until it is interrupted.

    Raises:
        ValueError: If there is no such version, or mlflow/serving.yaml does not fit.
    """
    given = _parse(arguments)
    limits = load("server", ServerParams, SETTINGS)
    settings = load("model", ServedModelParams, SETTINGS)
    drift = load("drift", DriftParams, SETTINGS)
    uri = model_uri(given.version)
    connect()
    import mlflow
    import uvicorn
    from mlflow.pyfunc import scoring_server

    try:
        model = mlflow.pyfunc.load_model(uri, model_config=settings.model_dump())
    except mlflow.exceptions.MlflowException as error:
        got = str(error).partition("\n")[0]
        raise ValueError(f"{uri}: expected a registered model, got {got}") from None
    reference = _reference(uri, given.images)
    if reference is not None:
        model = Watched(model, reference, drift)
    logger.info("%s at http://%s:%d/invocations", given.version, given.host, given.port)
    uvicorn.run(
        Guarded(scoring_server.init(model), max_body_bytes=limits.max_body_bytes),
        host=given.host,
        port=given.port,
        limit_concurrency=limits.max_concurrent,
        log_level="warning",
    )


def _reference(uri: str, manifest: Path | None) -> Reference | None:
    """Returns the statistics of the images to compare with; None, with a warning, without any."""
    import mlflow

    if manifest is not None:
        return Reference.of_manifest(manifest)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            place = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{uri}/artifacts/{IMAGES}", dst_path=scratch
            )
        except (mlflow.exceptions.MlflowException, OSError):
            logger.warning("%s: no %s, so drift of images is not seen (--images)", uri, IMAGES)
            return None
        return Reference(json.loads(Path(place).read_bytes()))


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns what an application receives: the whole body, then what the server still says."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


class _Errors:
    """Lets answers pass and holds errors back, to send them as one line."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 200
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        if self.status < 400:
            await self._send(message)
        else:
            self.body += message.get("body", b"")

    async def finish(self) -> None:
        """Sends the error, if it is one, without the data and stack traces that MLflow adds."""
        if self.status >= 400:
            await _answer(self._send, self.status, _short(self.body))


def _short(body: bytes) -> dict[str, str]:
    try:
        error = json.loads(body)
        code, text = str(error["error_code"]), str(error["message"])
    except (ValueError, TypeError, KeyError):
        code, text = "BAD_REQUEST", body.decode("utf-8", errors="replace")
    # MLflow puts the data in front of what the model says.
    line = " ".join(text.rpartition("\nError: ")[2].split())
    return {"error_code": code, "message": line[:500]}


async def _answer(send: Send, status: int, content: dict[str, str]) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.serve", description="Serve a model.")
    parser.add_argument("version", help="as depth-relative-vits@champion or depth-relative-vits/3")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="(8080)")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="MANIFEST",
        help="of images to compare those asked about with; default: those of the training",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_program("serve", main, sys.argv[1:])
