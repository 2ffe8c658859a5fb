from pathlib import Path

import pytest

from stages.sections import main, problems, section_models

SHIPPED = Path("params.yaml")


@pytest.fixture
def changed(tmp_path: Path):
    """Writes the shipped parameters with one piece of text replaced."""

    def write(old: str, new: str) -> Path:
        text = SHIPPED.read_text()
        assert old in text
        path = tmp_path / "params.yaml"
        path.write_text(text.replace(old, new, 1))
        return path

    return write


def test_the_shipped_file_is_valid():
    assert problems(SHIPPED) == []


def test_every_section_of_the_shipped_file_has_a_class():
    from stages.params import read_document

    known = {name.partition(".")[0] for name in section_models()} | {"sources"}
    assert set(read_document(SHIPPED)) == known


def test_a_learning_rate_given_as_text_is_named(changed):
    (line,) = problems(changed("encoder_lr: ", "encoder_lr: fast  # "))
    assert "train_teacher.optimiser.encoder_lr: " in line
    assert line.endswith("got 'fast'")


def test_an_unknown_section_is_named(changed):
    (line,) = problems(changed("gate_release:", "gate_relese:"))[1:]
    assert "expected one of" in line
    assert line.endswith("got 'gate_relese'")


def test_a_source_without_a_role_is_named(changed):
    (line,) = problems(changed("\n      unlabelled: [all]", "\n      unlabeled: [all]"))
    assert "sources.wild.roles" in line


def test_the_command_says_every_problem_in_a_line_and_fails(changed):
    main(SHIPPED)
    with pytest.raises(SystemExit, match=r"encoder_lr: .*got 'fast'$"):
        main(changed("encoder_lr: ", "encoder_lr: fast  # "))
    with pytest.raises(SystemExit, match=r"none\.yaml: expected a parameters file"):
        main(Path("none.yaml"))
