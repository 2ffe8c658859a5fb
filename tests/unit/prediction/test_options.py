import pytest

from dav2.prediction.options import parse

ARGUMENTS = ["--weights", "w", "--out", "o", "a.png"]


def test_defaults():
    options = parse(ARGUMENTS)
    assert options.formats == ("png16", "color")
    assert (options.device, options.precision, options.tile) == ("auto", "auto", False)
    assert (options.input_size, options.focal_px, options.batch_size) == (None, None, 4)


def test_formats_are_separated_by_commas_and_each_counts_once():
    assert parse([*ARGUMENTS, "--format", "ply, npy,ply"]).formats == ("ply", "npy")


@pytest.mark.parametrize(("text", "wrong"), [("png16,tiff", "tiff"), ("", ""), ("npy,", "")])
def test_an_unknown_format_is_refused_with_the_choices(capsys, text, wrong):
    with pytest.raises(SystemExit, match="2"):
        parse([*ARGUMENTS, f"--format={text}"])
    message = f"expected formats of png16, npy, exr, color, controlnet, ply, got '{wrong}'"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--batch-size", "--input-size"])
@pytest.mark.parametrize("value", ["0", "-3", "2.5", "many"])
def test_a_number_of_pixels_or_images_that_makes_no_sense_is_refused(capsys, option, value):
    with pytest.raises(SystemExit, match="2"):
        parse([*ARGUMENTS, f"{option}={value}"])
    assert f"expected a whole number above 0, got {value}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--focal-px", "--max-depth-m"])
@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf", "many"])
def test_a_length_that_makes_no_sense_is_refused(capsys, option, value):
    with pytest.raises(SystemExit, match="2"):
        parse([*ARGUMENTS, f"{option}={value}"])
    assert f"expected a number above 0, got {value}" in capsys.readouterr().err
