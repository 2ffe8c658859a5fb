from pathlib import Path

import pytest

from stages.experiment import main
from stages.params import PARAMS_FILE
from stages.sections import problems

EXPERIMENTS = sorted(Path("experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", [PARAMS_FILE, *EXPERIMENTS], ids=str)
def test_every_shipped_parameters_file_is_complete_and_valid(path: Path):
    assert problems(path) == []


def test_a_valid_file_becomes_the_current_one(tmp_path: Path):
    main(PARAMS_FILE, tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_bytes() == PARAMS_FILE.read_bytes()


def test_a_bad_file_is_refused_and_changes_nothing(tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(PARAMS_FILE.read_text().replace("num_steps:", "num_step:", 1))
    (tmp_path / "params.yaml").write_text("as it was")
    with pytest.raises(SystemExit, match=r"bad\.yaml: .*num_step"):
        main(bad, tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_text() == "as it was"


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"none\.yaml: expected a parameters file"):
        main(tmp_path / "none.yaml")
