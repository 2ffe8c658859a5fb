"""ETH3D's layout, written by hand: raw floats named like photographs, inf where unseen."""

import numpy as np
import pytest
from PIL import Image

from dav2.data.eth3d import Eth3d

INF = np.inf
DEPTH = np.array([[1.5, INF, 3], [0, 20, -1]], "<f4")


def write_view(root, depth=DEPTH, view="pipes", name="DSC_0634", size=(2, 3), **options):
    image = root / view / "images" / "dslr_images" / f"{name}.JPG"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 70, np.uint8)).save(image, "JPEG", **options)
    if depth is not None:
        truth = root / view / "ground_truth_depth" / "dslr_images" / f"{name}.JPG"
        truth.parent.mkdir(parents=True, exist_ok=True)
        truth.write_bytes(depth.tobytes())
    return root


def test_raw_floats_are_metres_and_inf_is_unknown(tmp_path):
    reader = Eth3d(write_view(tmp_path))

    (files,) = reader.list_samples("train")
    sample = reader.read(files)

    assert (files.sample_id, files.scene) == ("pipes/DSC_0634", "pipes")
    assert sample.valid.tolist() == [[True, False, True], [False, True, False]]
    assert sample.depth[sample.valid].tolist() == [1.5, 3, 20]
    assert sample.depth.dtype == np.float32
    assert sample.sky is None
    assert sample.intrinsics is None
    assert sample.scale_known
    assert sample.image.shape == (2, 3, 3)


def test_photographs_without_depth_are_left_out(tmp_path):
    write_view(tmp_path, view="relief", name="DSC_0002")
    write_view(tmp_path, view="facade", name="DSC_0001")
    write_view(tmp_path, None, view="facade", name="DSC_0003")

    ids = [files.sample_id for files in Eth3d(tmp_path).list_samples("train")]

    assert ids == ["facade/DSC_0001", "relief/DSC_0002"]


def test_all_scenes_must_have_the_published_number_of_photographs(tmp_path):
    scenes = (
        "courtyard delivery_area electro facade kicker meadow office pipes playground relief "
        "relief_2 terrace terrains"
    )
    for scene in scenes.split():
        write_view(tmp_path, view=scene)

    with pytest.raises(ValueError, match=r"expected the 454 samples of the published split .*13"):
        Eth3d(tmp_path).list_samples("train")


def test_another_number_of_bytes_is_refused(tmp_path):
    reader = Eth3d(write_view(tmp_path, DEPTH[:, :2]))

    with pytest.raises(ValueError, match=r"DSC_0634\.JPG: expected 2 x 3 float32.*got 16 bytes"):
        reader.read(reader.list_samples("train")[0])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_photograph_that_exif_turns_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    reader = Eth3d(write_view(tmp_path, exif=exif))
    (files,) = reader.list_samples("train")
    with pytest.raises(ValueError, match=r"dslr_images/DSC_0634\.JPG: .*turns \(orientation 3\)"):
        reader.read(files)

    exif[0x0112] = 1
    write_view(tmp_path, exif=exif)
    assert reader.read(files).depth[0, 0] == 1.5
    write_view(tmp_path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")  # damaged: counts as none
    assert reader.read(files).depth[0, 0] == 1.5


def test_another_format_is_refused(tmp_path):
    reader = Eth3d(write_view(tmp_path))
    (files,) = reader.list_samples("train")
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / files.image, "PNG")

    with pytest.raises(ValueError, match=r"DSC_0634\.JPG: expected a JPEG, as all are, got PNG"):
        reader.read(files)


def test_an_empty_map_is_refused(tmp_path):
    reader = Eth3d(write_view(tmp_path, np.full((2, 3), INF, "<f4")))

    with pytest.raises(ValueError, match=r"expected depth with .*got no usable value in 6"):
        reader.read(reader.list_samples("train")[0])


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a dataset"):
        Eth3d(tmp_path / "misspelt").list_samples("train")
    with pytest.raises(ValueError, match="expected split 'train', got 'test'"):
        Eth3d(tmp_path).list_samples("test")
    with pytest.raises(ValueError, match="expected samples of split 'train', got none"):
        Eth3d(tmp_path).list_samples("train")
