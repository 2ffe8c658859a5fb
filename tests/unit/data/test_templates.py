"""Templates find the names that they make."""

import pytest

from dav2.data.templates import NameTemplate


def test_a_placeholder_stands_for_one_folder_or_name():
    template = NameTemplate("{scene}/rgb/{frame}_left.png", name="images")

    assert template.match("kitchen/rgb/0001_left.png") == {"scene": "kitchen", "frame": "0001"}
    assert template.placeholders == {"scene", "frame"}
    for other in ("a/b/rgb/0001_left.png", "kitchen/rgb/0001_right.png", "kitchen/rgb/_left.png"):
        assert template.match(other) is None
    assert str(template) == "{scene}/rgb/{frame}_left.png"


def test_path_stands_for_any_folders():
    template = NameTemplate("rgb/{path}.jpg", name="images")

    assert template.match("rgb/a/b/c.jpg") == {"path": "a/b/c"}
    assert template.match("rgb/axjpg") is None  # the dot is no wildcard


def test_a_placeholder_that_stands_twice_is_the_same_twice():
    template = NameTemplate("{scene}/{scene}_{frame}.png", name="images")

    assert template.match("a/a_1.png") == {"scene": "a", "frame": "1"}
    assert template.match("a/b_1.png") is None


def test_what_was_found_makes_the_other_name():
    values = NameTemplate("{scene}/{frame}.jpg", name="images").match("a/7.jpg")

    assert NameTemplate("d/{frame}/{scene}.npy", name="depth").fill(values) == "d/7/a.npy"


@pytest.mark.parametrize("text", ["rgb/*.jpg", "{frame.jpg", "frame}.jpg", "{Frame 1}.jpg"])
def test_templates_without_whole_placeholders_are_refused(text):
    with pytest.raises(ValueError, match="images: expected a path with placeholders in braces"):
        NameTemplate(text, name="images")


def test_templates_that_leave_the_root_are_refused():
    for text in ("/data/{frame}.png", "../{frame}.png"):
        with pytest.raises(ValueError, match="depth: expected a path relative to the root, got"):
            NameTemplate(text, name="depth")
    with pytest.raises(ValueError, match="depth: expected text, got ''"):
        NameTemplate("", name="depth")
