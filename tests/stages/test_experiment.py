from pathlib import Path

import pytest

from stages.experiment import main, resolve
from stages.params import PARAMS_FILE, read_document


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


@pytest.fixture
def files(tmp_path: Path):
    """Writes parameters files, and returns the folder."""

    def write(**texts: str) -> Path:
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


def test_a_short_file_changes_its_base_and_keeps_the_rest(files):
    folder = files(
        whole="a:\n  x: 1\n  deep: {y: [1, 2], z: 3}\nb: 4\n",
        middle="base: whole.yaml\nb: 5\n",
        short="base: middle.yaml\na:\n  deep: {y: [7]}\n",
    )
    found = resolve(folder / "short.yaml")
    assert found == {"a": {"x": 1, "deep": {"y": [7], "z": 3}}, "b": 5}
    other = files(other="a: {deep: {}}\n") / "other.yaml"
    assert resolve(folder / "short.yaml", base=other) == {"a": {"deep": {"y": [7]}}}


def test_what_is_removed_is_gone_before_the_rest_is_merged(files):
    folder = files(whole="a: {x: 1, y: 2}\nb: 3\n", short="base: whole.yaml\nremove: [a.x, b]\n")
    assert resolve(folder / "short.yaml") == {"a": {"y": 2}}
    folder = files(short="base: whole.yaml\nremove: [a]\na: {z: 1}\n")
    assert resolve(folder / "short.yaml") == {"a": {"z": 1}, "b": 3}
    folder = files(short="base: whole.yaml\nremove: [a.q]\n")
    with pytest.raises(ValueError, match=r"short\.yaml: remove a\.q: expected something of that"):
        resolve(folder / "short.yaml")


def test_a_variant_changes_what_its_file_says(files):
    folder = files(
        whole="a: {x: 1, y: 2}\n",
        short="base: whole.yaml\na: {x: 5}\nvariants:\n  none:\n  more:\n    a: {y: 6}\n",
    )
    assert resolve(folder / "short.yaml", "none") == {"a": {"x": 5, "y": 2}}
    assert resolve(folder / "short.yaml", "more") == {"a": {"x": 5, "y": 6}}
    with pytest.raises(
        ValueError, match=r"short\.yaml: expected a variant of none, more, got less"
    ):
        resolve(folder / "short.yaml", "less")
    with pytest.raises(SystemExit, match="expected a variant of none, more, got no name"):
        main(folder / "short.yaml", folder / "params.yaml")


def test_files_that_build_on_each_other_in_a_circle_are_refused(files):
    folder = files(a="base: b.yaml\n", b="base: a.yaml\n")
    with pytest.raises(
        ValueError, match=r"expected a base that does not build on it, got .*a\.yaml"
    ):
        resolve(folder / "a.yaml")


def test_a_short_file_is_written_whole_and_means_the_same(tmp_path: Path):
    short = tmp_path / "short.yaml"
    text = f"base: {PARAMS_FILE.resolve()}\ntrain_teacher:\n  optimiser: {{encoder_lr: 5e-6}}\n"
    short.write_text(text)
    main(short, tmp_path / "params.yaml")
    whole = read_document(PARAMS_FILE)
    whole["train_teacher"]["optimiser"]["encoder_lr"] = 5e-6
    assert read_document(tmp_path / "params.yaml") == whole
    assert (tmp_path / "params.yaml").read_text().startswith(f"# {short.as_posix()}, written by")


def test_a_misspelt_change_is_named_and_changes_nothing(tmp_path: Path):
    short = tmp_path / "short.yaml"
    short.write_text(f"base: {PARAMS_FILE.resolve()}\ntrain_teacher: {{num_step: 3}}\nreprot: 1\n")
    (tmp_path / "params.yaml").write_text("as it was")
    with pytest.raises(SystemExit) as raised:
        main(short, tmp_path / "params.yaml")
    assert [line.rpartition(": ")[2] for line in str(raised.value).splitlines()] == [
        "Extra inputs are not permitted, got 3",
        f"expected one of {sorted(read_document(PARAMS_FILE))}, got 'reprot'",
    ]
    assert (tmp_path / "params.yaml").read_text() == "as it was"
