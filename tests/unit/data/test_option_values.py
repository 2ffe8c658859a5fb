"""Whatever YAML holds, an option is what it should be or a message says which is not."""

import pytest

from dav2.data.option_values import (
    check_flag,
    check_number,
    check_numbers,
    check_text,
    check_texts,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [1, 0.5, 1e-6])
def test_numbers_pass(value):
    check_number(value, name="scale", above=0)
    check_numbers([value, -value], name="invalid", count=2)


@pytest.mark.parametrize("value", [0, -1.0, NAN, INF, "0.001", True, None, [1]])
def test_what_is_no_number_above_the_limit_is_refused(value):
    with pytest.raises(ValueError, match=r"^scale: expected a number above 0, got "):
        check_number(value, name="scale", above=0)


def test_without_a_limit_any_finite_number_passes():
    check_number(-1, name="invalid")
    with pytest.raises(ValueError, match=r"^invalid: expected a number, got nan"):
        check_number(NAN, name="invalid")


@pytest.mark.parametrize("value", [3, "1, 2", [1, 2], None])
def test_lists_of_another_length_or_kind_are_refused(value):
    with pytest.raises(ValueError, match=r"^intrinsics: expected a list of 4 numbers, got "):
        check_numbers(value, name="intrinsics", count=4)


def test_members_of_lists_are_checked():
    with pytest.raises(ValueError, match="invalid: expected a number, got 'a'"):
        check_numbers([1, "a"], name="invalid")
    with pytest.raises(ValueError, match="scenes: expected text, got 7"):
        check_texts(["a", 7], name="scenes")
    with pytest.raises(ValueError, match="scenes: expected a list of texts, got 'a'"):
        check_texts("a", name="scenes")


def test_flags_and_texts_are_not_taken_from_others():
    check_flag(False, name="scale_known")
    check_text("a", name="depth")
    check_texts(["a"], name="scenes")
    with pytest.raises(ValueError, match="scale_known: expected true or false, got 0"):
        check_flag(0, name="scale_known")
    for value in ("", 3, None):
        with pytest.raises(ValueError, match="depth: expected text, got "):
            check_text(value, name="depth")
