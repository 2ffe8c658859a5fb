import re
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


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("encoders: [vit64x4]", "encoders: [vit64x4, vitx]", "encoders: .*vitl, .*, got vitx"),
        ("both: []", "both: [vitx]", "both: .*vitl, .*, got vitx"),
        ("warm: []", "warm: [saml]", "warm: .*vitl, .*, got saml"),  # SAM's are not warmed up
        ("live: []", "live: [vitx]", "live: .*vitl, .*, got vitx"),
        ("- student-vit64x4-pseudo", "- student-vit64x4-psuedo", "models: .*, got .*-psuedo"),
        ("- metric-vit64x4-indoor", "- metric-vits-indoor", "models: .*, got metric-vits-indoor"),
    ],
)
def test_a_name_without_an_encoder_or_a_model_is_named(changed, old, new, line):
    (found,) = problems(changed(old, new))
    assert re.search(rf"params\.yaml: matrix\.{line}$", found)


def test_metric_models_without_their_students_are_refused(changed):
    path = changed("labels: [pseudo, synthetic]", "labels: [synthetic]")
    path.write_text(path.read_text().replace("    - student-vit64x4-pseudo\n", ""))
    (line,) = problems(path)
    assert "matrix.domains: expected none, since metric models start from students of" in line
    assert line.endswith("got indoor, outdoor")


def test_students_of_every_kind_may_be_evaluated(changed):
    path = changed("live: []", "live: [vits]")
    path.write_text(path.read_text().replace("- teacher", "- teacher\n    - student-vits-live"))
    assert problems(path) == []


def test_the_command_says_every_problem_in_a_line_and_fails(changed):
    main(SHIPPED)
    with pytest.raises(SystemExit, match=r"encoder_lr: .*got 'fast'$"):
        main(changed("encoder_lr: ", "encoder_lr: fast  # "))
    with pytest.raises(SystemExit, match=r"none\.yaml: expected a parameters file"):
        main(Path("none.yaml"))
