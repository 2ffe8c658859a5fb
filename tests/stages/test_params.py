from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from stages.params import Params, load


class Example(Params):
    lr: Annotated[float, Field(gt=0)]
    crop_px: tuple[int, int]


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(text)
        return path

    return write


def test_reads_a_nested_section_with_a_list_for_a_tuple(written):
    path = written("render:\n  studio:\n    lr: 5e-6\n    crop_px: [84, 112]\n")
    assert load("render.studio", Example, path) == Example(lr=5e-6, crop_px=(84, 112))


def test_a_misspelt_parameter_is_named(written):
    path = written("a:\n  lr: 1.0\n  crop_px: [1, 2]\n  lrr: 2\n")
    with pytest.raises(ValueError, match=r"params.yaml: a\.lrr: Extra inputs.*got 2$"):
        load("a", Example, path)


def test_a_learning_rate_given_as_text_is_refused(written):
    path = written("a:\n  lr: 'fast'\n  crop_px: [1, 2]\n")
    with pytest.raises(ValueError, match=r"params.yaml: a\.lr: .*number.*got 'fast'$"):
        load("a", Example, path)


def test_a_missing_parameter_is_named(written):
    with pytest.raises(ValueError, match=r"params.yaml: a\.crop_px: Field required$"):
        load("a", Example, written("a:\n  lr: 1.0\n"))


def test_every_problem_stands_on_the_one_line(written):
    with pytest.raises(ValueError, match=r"a\.lr: .*; .*a\.crop_px: ") as raised:
        load("a", Example, written("a:\n  lr: -1.0\n  crop_px: 3\n"))
    assert "\n" not in str(raised.value)


def test_a_missing_section_is_named(written):
    with pytest.raises(ValueError, match=r"expected a section 'b\.c', got none"):
        load("b.c", Example, written("a: 1\n"))


def test_text_that_is_no_yaml_is_one_line(written):
    with pytest.raises(ValueError, match="expected YAML, got") as raised:
        load("a", Example, written("a: [1\nb: {"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_a_number_that_is_not_finite_is_refused(written, number):
    with pytest.raises(ValueError, match=r"params.yaml: a\.lr: Input should be a finite number"):
        load("a", Example, written(f"a:\n  lr: {number}\n  crop_px: [1, 2]\n"))


@pytest.mark.parametrize("value", ["2026-01-01", "&a [*a]", "!!binary aGk="])
def test_a_value_that_is_no_json_is_one_line(written, value):
    with pytest.raises(ValueError, match=r"params.yaml: a: expected numbers, text .*, got: "):
        load("a", Example, written(f"a:\n  lr: {value}\n  crop_px: [1, 2]\n"))


@pytest.mark.parametrize(("text", "got"), [("", "nothing"), ("- a\n", "list"), ("a\n", "str")])
def test_a_file_without_sections_is_named(written, text, got):
    with pytest.raises(ValueError, match=f"params.yaml: expected a map of sections, got {got}$"):
        load("a", Example, written(text))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="expected a parameters file"):
        load("a", Example, tmp_path / "none.yaml")


def test_parameters_cannot_be_changed(written):
    example = load("a", Example, written("a:\n  lr: 1.0\n  crop_px: [1, 2]\n"))
    with pytest.raises(ValueError, match="frozen"):
        example.lr = 2.0
