"""Makes a parameters file of `experiments/` the current one (`make experiment E=...`)."""

import shutil
import sys
from pathlib import Path

from dav2.data.files import written_whole
from stages.params import PARAMS_FILE
from stages.sections import main as validate


def main(experiment: Path, params: Path = PARAMS_FILE) -> None:
    """Validates a complete parameters file and copies it to `params`, whole.

    Raises:
        SystemExit: If it does not fit; `params` is left as it was. One line a problem.
    """
    validate(experiment)
    with written_whole(params) as written:
        shutil.copyfile(experiment, written)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
