import pytest

from dav2.prediction.sources import find_sources


def make_files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder, *paths, out="out"):
    sources = find_sources([str(folder / path) for path in paths], out=folder / out)
    return {source.label: source.path.relative_to(folder).as_posix() for source in sources}


def test_a_folder_is_searched_to_the_bottom_for_images_and_videos(tmp_path):
    make_files(tmp_path / "in", "b.JPG", "x/y/a.webp", "notes.txt", "clip.mp4", ".hidden/c.jpg")
    assert found(tmp_path, "in") == {
        "b": "in/b.JPG",
        "clip/": "in/clip.mp4",
        "x/y/a": "in/x/y/a.webp",
    }


def test_the_output_folder_inside_a_folder_is_no_input(tmp_path):
    make_files(tmp_path, "a.jpg", "out/a_depth.png")
    assert found(tmp_path, ".") == {"a": "a.jpg"}


def test_a_pattern_names_outputs_from_its_first_wildcard(tmp_path):
    make_files(tmp_path, "in/x/a.jpg", "in/y/a.jpg", "in/y/b.txt", "in/c.jpg")
    assert found(tmp_path, "in/*/*.jpg") == {"x/a": "in/x/a.jpg", "y/a": "in/y/a.jpg"}
    assert found(tmp_path, "in/**/a.*") == {"x/a": "in/x/a.jpg", "y/a": "in/y/a.jpg"}
    assert found(tmp_path, "in/?.jpg") == {"c": "in/c.jpg"}


def test_a_pattern_finds_folders_too(tmp_path):
    make_files(tmp_path, "in/x/a.jpg", "in/c.jpg", "in/.d.jpg")
    assert found(tmp_path, "in/*") == {"x/a": "in/x/a.jpg", "c": "in/c.jpg"}


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    make_files(tmp_path, "a[1].jpg", "a1.jpg")
    assert found(tmp_path, "a[1].jpg") == {"a[1]": "a[1].jpg"}


def test_a_file_named_twice_is_taken_once(tmp_path):
    make_files(tmp_path, "in/a.jpg", "in/b.jpg")
    assert found(tmp_path, "in/b.jpg", "in", "in/*.jpg") == {"b": "in/b.jpg", "a": "in/a.jpg"}


def test_a_named_file_is_taken_whatever_its_suffix_and_even_if_missing(tmp_path):
    make_files(tmp_path, "photo.dat")
    assert found(tmp_path, "photo.dat", "none.jpg") == {"photo": "photo.dat", "none": "none.jpg"}


@pytest.mark.parametrize("path", ["in", "in/*.jpg", "in/**/*"])
def test_a_folder_or_pattern_without_images_is_refused(tmp_path, path):
    make_files(tmp_path, "in/notes.txt")
    with pytest.raises(ValueError, match=r"expected images or videos \(\.jpg .*\), got none"):
        found(tmp_path, path)


def test_two_images_of_one_name_are_refused(tmp_path):
    make_files(tmp_path, "a.png", "a.webp")
    with pytest.raises(ValueError, match=r"a\.webp: expected another name, got that of .*a\.png"):
        found(tmp_path, ".")


def test_a_photograph_and_a_video_may_share_a_name(tmp_path):
    make_files(tmp_path, "a.jpg", "a.mov")
    assert found(tmp_path, ".") == {"a": "a.jpg", "a/": "a.mov"}


def test_an_image_in_the_folder_that_a_video_is_written_to_is_refused(tmp_path):
    make_files(tmp_path, "clip.mp4", "clip/x/a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg: expected a name outside clip/, .*clip\.mp4"):
        found(tmp_path, ".")
