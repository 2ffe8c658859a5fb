"""Open Images' layout: subsets by folder, by tar or by listing."""

import pytest

from dav2.data.open_images import OpenImages, OpenImagesOptions
from tests.fixtures.photographs import jpeg, listed, write, write_tar

A, B, C, D = "000002b66c9c498e", "ffffffffffffffff", "0000000000000000", "8000000000000000"
LISTING = "train-images.csv"


def test_folders_and_tars_tell_the_subset(tmp_path):
    write_tar(tmp_path / "train_0.tar", {f"train_0/{A}.jpg": jpeg((6, 10), 90)})
    write_tar(tmp_path / "train_f.tar", {f"{B}.jpg": jpeg()})
    write(tmp_path / "train" / f"{C}.jpg", jpeg())
    write_tar(tmp_path / "validation.tar", {f"validation/{D}.jpg": jpeg()})
    reader = OpenImages(tmp_path)

    assert listed(reader, "train") == [(A, "train_0"), (B, "train_f"), (C, "train")]
    assert listed(reader, "validation") == [(D, "validation")]
    sample = reader.read(next(reader.list_samples("train")))
    assert sample.image.shape == (6, 10, 3)
    assert (sample.image == 90).all()
    assert sample.dataset == "open_images"
    with pytest.raises(ValueError, match="expected samples of split 'test', got none"):
        listed(reader, "test")


def with_listing(root, rows, header="ImageID,Subset,OriginalURL"):
    write(root / LISTING, "\r\n".join([header, *rows, ""]).encode("utf-8-sig"))
    return OpenImages(root, options=OpenImagesOptions(listing=LISTING))


def test_a_listing_tells_the_subset_wherever_photographs_lie(tmp_path):
    for name in (A, B, C, D):
        write(tmp_path / "flat" / f"{name}.jpg")
    rows = [f'{B},train,"a,\nb"', f"{A},train,", f"{D},validation,", f"{A[:-1]}f,train,"]
    reader = with_listing(tmp_path, rows)

    assert listed(reader, "train") == [(A, "flat"), (B, "flat")]
    assert listed(reader, "validation") == [(D, "flat")]
    with pytest.raises(ValueError, match="expected samples of split 'test', got none"):
        listed(reader, "test")


def test_damaged_listings_are_refused_in_one_line(tmp_path):
    write(tmp_path / f"{A}.jpg")

    with pytest.raises(ValueError, match=r"images\.csv: expected ids of 16 digits, got 'x'"):
        listed(with_listing(tmp_path, ["x,train"]), "train")
    with pytest.raises(ValueError, match=r"csv: expected a column Subset, got none of that name"):
        listed(with_listing(tmp_path, [], header="ImageID,Split"), "train")
    with pytest.raises(ValueError, match=r"csv: expected a column ImageID"):
        listed(with_listing(tmp_path, [], header=""), "train")
    with pytest.raises(ValueError, match=r"csv: field larger than field limit"):
        listed(with_listing(tmp_path, [f"{A},{'x' * 200_000}"]), "train")
    write(tmp_path / LISTING, b"ImageID,Subset\n\xff\xfe,train\n")
    reader = OpenImages(tmp_path, options=OpenImagesOptions(listing=LISTING))
    with pytest.raises(ValueError, match=r"csv: expected text in UTF-8, got other bytes"):
        listed(reader, "train")
    (tmp_path / LISTING).unlink()
    with pytest.raises(FileNotFoundError, match=r"csv: expected a file, got nothing there"):
        listed(reader, "train")
    with pytest.raises(ValueError, match="listing: expected"):
        OpenImagesOptions(listing="")


def test_other_names_and_splits_are_refused(tmp_path):
    write(tmp_path / "pictures" / f"{A}.jpg")

    with pytest.raises(
        ValueError, match=r"expected photographs as <id>\.jpg, 16 .* the subset, got"
    ):
        listed(OpenImages(tmp_path), "train")
    write(tmp_path / "pictures" / "holiday.jpg")
    with pytest.raises(ValueError, match=r"holiday\.jpg: expected photographs as <id>\.jpg, 16"):
        listed(with_listing(tmp_path, [f"{A},train"]), "train")
    with pytest.raises(ValueError, match="expected split 'train' or 'validation' or 'test'"):
        OpenImages(tmp_path).list_samples("val")
