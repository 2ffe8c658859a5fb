"""The command line `python -m dav2.predict`.

What is heavy is imported once the options are known, so that `--help` answers at once.

Axes: H height, W width (pixels).
"""

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from typing import TYPE_CHECKING, Any

from dav2.data.files import write_json
from dav2.prediction.options import Options, parse
from dav2.prediction.sources import Source, find_sources

if TYPE_CHECKING:
    from dav2.prediction.run import Run

_SUMMARY = "predictions.json"
_INTERRUPTED = 130  # 128 + SIGINT, as shells count

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Predicts what is named on the command line.

    Returns:
        The exit status. 0: all is done; 1: some inputs failed, the others are done; 2: nothing
        could be done; 130: interrupted, what was finished is there.

    Raises:
        SystemExit: As argparse does.
    """
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return _run(options)
    except KeyboardInterrupt:
        _log.error("interrupted")
        return _INTERRUPTED
    except (ValueError, OSError) as error:
        _log.error("%s", error)
        return 2


def _run(options: Options) -> int:
    # Imports turn an interruption into errors of their own; there is nothing to clean up yet.
    with _when_interrupted(_leave):
        sources = find_sources(options.paths, out=options.out)
        earlier = _check_outputs(sources, options)

        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        run = _prepare(options)
    _check_writable(options.out)
    with _when_interrupted(_stop):
        try:
            with (
                logging_redirect_tqdm(),
                tqdm(total=len(sources), unit="file", disable=None) as progress,
            ):
                run.predict_images([s for s in sources if not s.is_video], progress)
                run.predict_videos([s for s in sources if s.is_video], progress)
        finally:
            # Also after an interruption: without its range a 16-bit map is worth little.
            if run.entries:
                write_json(earlier | run.entries, options.out / _SUMMARY)
    if run.num_failed:
        _log.error("%d of %d inputs failed", run.num_failed, len(sources))
    if not run.entries:
        return 2
    return 1 if run.num_failed else 0


@contextmanager
def _when_interrupted(action: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(_number: int, _frame: FrameType | None) -> None:
    _log.error("interrupted")
    os._exit(_INTERRUPTED)


def _stop(_number: int, _frame: FrameType | None) -> None:
    # A second one would come in the midst of cleaning up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _check_outputs(sources: Sequence[Source], options: Options) -> dict[str, Any]:
    """Refuses what can be refused before any work; returns what an earlier run wrote down."""
    from dav2.prediction.formats import check_libraries, ending

    check_libraries(options.formats, with_video=any(source.is_video for source in sources))
    inputs = {source.path.resolve(): source for source in sources}
    for source in sources:
        for kind in () if source.is_video else options.formats:
            output = (options.out / f"{source.name}{ending(kind)}").resolve()
            if output in inputs:
                raise ValueError(
                    f"{source.path}: expected an output that is no input, "
                    f"got {inputs[output].path} (choose another --out)"
                )
    return _read_summary(options.out / _SUMMARY)


def _prepare(options: Options) -> "Run":
    from dav2.models.checkpoints import load
    from dav2.models.device import chosen_device
    from dav2.models.inference import prepare
    from dav2.prediction.run import Run

    device = chosen_device(options.device, where="--device")
    model, metadata = load(
        options.weights, max_depth_m=options.max_depth_m, version=options.version
    )
    short_side_px = options.input_size or int(
        metadata.get("short_side_px", model.encoder.config.native_px)
    )
    prepare(model, device=device, precision=options.precision)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    _log.info("Predicting on %s in %s, short side %d px", device, dtype, short_side_px)
    # What we trained says at which size, and was trained on antialiased images.
    trained_here = "short_side_px" in metadata
    preparation = options.preparation or ("antialiased" if trained_here else "authors")
    return Run(model, options, short_side_px=short_side_px, preparation=preparation)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder}: expected a folder to write to, got {error.strerror}") from None


def _read_summary(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON of an earlier prediction, got {error}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected JSON of an earlier prediction, got a {type(content).__name__}"
        )
    return content
