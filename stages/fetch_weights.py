"""Downloads the weights of a registered model, for `python -m dav2.predict --weights`.

`python -m stages.fetch_weights depth-relative-vits@champion champion.safetensors`
"""

import logging
import shutil
import sys
import tempfile
from pathlib import Path

from dav2.data.files import written_whole
from stages.program import run as run_program
from stages.registry import connect, fetch_weights, model_uri

logger = logging.getLogger(__name__)


def main(version: str, output: str) -> None:
    """Writes one file of weights, whole.

    Args:
        version: `<registered model>@<alias>` or `<registered model>/<version>`.
        output: File to write; an existing one is replaced.

    Raises:
        ValueError: If there is no such version.
    """
    connect()
    with tempfile.TemporaryDirectory() as scratch:
        weights = fetch_weights(model_uri(version), Path(scratch))
        with written_whole(Path(output)) as written:
            shutil.copyfile(weights, written)
    logger.info("%s: the weights of %s", output, version)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_program("fetch_weights", main, *sys.argv[1:])
