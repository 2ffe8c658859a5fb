"""Makes a parameters file of `experiments/` the current one (`make experiment E=...`)."""

import shutil
import sys
from pathlib import Path

from dav2.data.files import written_whole
from stages.params import PARAMS_FILE
from stages.sections import problems


def main(experiment: Path, params: Path = PARAMS_FILE) -> None:
    """Validates a complete parameters file and copies it to `params`, whole.

    Raises:
        SystemExit: If it does not fit; `params` is left as it was. One line a problem.
    """
    try:
        found = problems(experiment)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    if found:
        raise SystemExit("\n".join(found))
    with written_whole(params) as written:
        shutil.copyfile(experiment, written)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
