"""The engine labels every sample once, whatever fails, and gives the same bytes every time."""

import errno
import json
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dav2.data.images import decode_image
from dav2.data.shards import ShardReader, ShardWriter, read_index
from dav2.data.transforms import normalise, resize_image
from dav2.labeling.engine import label_shards
from dav2.labeling.plan import plan_shards
from dav2.labeling.store import read_refused


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_label_is_the_teachers_answer_to_the_whole_photograph(photographs, tmp_path):
    photographs.add("wild", 4)
    photographs.label(photographs.job(), tmp_path / "out")
    reader = ShardReader(tmp_path / "out")
    samples = {reader.read(i).sample_id: reader.read(i) for i in range(len(reader))}
    for number, size in enumerate([(28, 42), (42, 28), (28, 42), (42, 28)]):
        image = decode_image(tmp_path / "wild" / f"{number:03}.jpg")
        inputs = torch.from_numpy(np.array(resize_image(image, size)))[None]
        expected = photographs.teacher(normalise(inputs))[0].detach().numpy()
        label = samples[f"wild-{number:03}"].relative_depth
        np.testing.assert_allclose(label, expected, atol=np.ptp(expected) / 1e5)


def test_a_second_run_with_other_threads_gives_the_same_bytes(photographs, tmp_path):
    photographs.add("wild", 17)
    photographs.label(photographs.job(num_workers=1), tmp_path / "one")
    (tmp_path / "other").mkdir()
    other = photographs.job(num_workers=5, store=tmp_path / "other")
    photographs.label(other, tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_each_photograph_is_computed_once_and_never_again(photographs, tmp_path):
    photographs.add("wild", 17)
    job = photographs.job(check_fraction=0.0)
    photographs.label(job, tmp_path / "out")
    assert photographs.num_seen() == 17
    first = tree(tmp_path / "out")
    photographs.label(job, tmp_path / "out")
    assert photographs.num_seen() == 17
    assert tree(tmp_path / "out") == first


def test_batches_hold_no_more_than_allowed_and_mirror_images_go_apart(photographs):
    photographs.add("wild", 17)
    photographs.label(photographs.job(batch_size=2, check_fraction=1.0))
    assert max(photographs.teacher.batch_sizes) == 2
    assert photographs.num_seen() == 2 * 17


def test_adding_a_source_computes_only_its_own_photographs(photographs, tmp_path):
    photographs.add("wild", 11)
    photographs.label(photographs.job(check_fraction=0.0), tmp_path / "out")
    before = tree(tmp_path / "out" / "shards")
    photographs.add("photos", 5)
    photographs.label(photographs.job(check_fraction=0.0), tmp_path / "out")
    assert photographs.num_seen() == 11 + 5
    after = tree(tmp_path / "out" / "shards")
    assert before.items() < after.items()
    assert len(read_index(tmp_path / "out" / "manifest.parquet")) == 16


def test_removing_a_source_leaves_no_row_of_it(photographs, tmp_path):
    photographs.add("wild", 11).add("photos", 5)
    photographs.label(photographs.job(), tmp_path / "out")
    manifest = photographs.manifest()
    remaining = manifest[manifest["source"] == "wild"].reset_index(drop=True)
    photographs.label(photographs.job(remaining), tmp_path / "out")
    index = read_index(tmp_path / "out" / "manifest.parquet")
    assert set(index["source"]) == {"wild"}
    assert not any(name.startswith("photos") for name in tree(tmp_path / "out" / "shards"))


def test_another_teacher_leaves_no_old_label(photographs, tmp_path):
    photographs.add("wild", 9)
    photographs.label(photographs.job(teacher="a" * 16), tmp_path / "out")
    torch.nn.init.constant_(photographs.teacher.blur.weight, -0.02)
    photographs.label(photographs.job(teacher="b" * 16), tmp_path / "out")
    (tmp_path / "fresh").mkdir()
    fresh = photographs.job(teacher="b" * 16, store=tmp_path / "fresh")
    photographs.label(fresh, tmp_path / "expected")
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")


@pytest.mark.parametrize(
    ("damage", "is_listed_damaged", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), True, "expected a whole JPEG"),
        (lambda path: path.write_bytes(b"text"), True, "expected a JPEG, PNG or WebP image"),
        (lambda path: path.write_bytes(b"text"), False, "expected the file that was ingested"),
        (lambda path: path.unlink(), False, "expected a file, got nothing there"),
    ],
)
def test_a_photograph_that_fails_is_quarantined_with_its_reason(
    photographs, tmp_path, damage, is_listed_damaged, reason
):
    photographs.add("wild", 6)
    path = tmp_path / "wild" / "001.jpg"
    before = photographs.manifest()
    damage(path)
    manifest = photographs.manifest() if is_listed_damaged else before
    finished = photographs.label(photographs.job(manifest), tmp_path / "out")
    refused = read_refused(photographs.store, [shard for shard, _ in finished]).to_pylist()
    assert [entry["sample_id"] for entry in refused] == ["wild-001"]
    assert refused[0]["reason"].startswith(f"001.jpg: {reason}")
    assert str(tmp_path) not in refused[0]["reason"]
    index = read_index(tmp_path / "out" / "manifest.parquet")
    assert sorted(index["sample_id"]) == [f"wild-{n:03}" for n in (0, 2, 3, 4, 5)]


def test_a_photograph_of_another_size_than_ingested_is_quarantined(photographs):
    photographs.add("wild", 3)
    manifest = photographs.manifest()
    manifest.loc[1, ["height", "width"]] = 40, 60
    finished = photographs.label(photographs.job(manifest))
    (reason,) = read_refused(photographs.store, [shard for shard, _ in finished])["reason"]
    assert "001.jpg: expected 40 x 60 px as in the manifest, got 42 x 28 px" in str(reason)


def test_a_photograph_too_elongated_is_quarantined_without_decoding(photographs):
    photographs.add("wild", 3)
    finished = photographs.label(photographs.job(max_aspect_ratio=1.4))
    reasons = read_refused(photographs.store, [shard for shard, _ in finished])["reason"]
    assert "aspect ratio of at most 1.4, got 28 x 42 px" in str(reasons[0])
    assert photographs.num_seen() == 0


def test_an_answer_that_is_not_finite_is_quarantined(photographs):
    photographs.add("wild", 3)
    torch.nn.init.constant_(photographs.teacher.blur.bias, float("nan"))
    finished = photographs.label(photographs.job(check_fraction=1.0))
    reasons = read_refused(photographs.store, [shard for shard, _ in finished])["reason"]
    assert "label: expected finite values, got 1176 that are not" in str(reasons[0])


def test_a_file_that_was_gone_is_tried_again_and_a_damaged_one_is_not(photographs, tmp_path):
    photographs.add("wild", 2)
    manifest = photographs.manifest()
    gone, whole = tmp_path / "wild" / "000.jpg", (tmp_path / "wild" / "000.jpg").read_bytes()
    gone.unlink()
    photographs.label(photographs.job(manifest, check_fraction=0.0))
    gone.write_bytes(whole)
    ((_, record),) = photographs.label(photographs.job(manifest, check_fraction=0.0))
    assert (record.num_samples, record.num_refused) == (2, 0)
    gone.write_bytes(b"text")
    manifest = photographs.manifest()
    photographs.label(photographs.job(manifest, check_fraction=0.0))
    num_seen = photographs.num_seen()
    ((_, record),) = photographs.label(photographs.job(manifest, check_fraction=0.0))
    assert record.num_refused == 1
    assert photographs.num_seen() == num_seen


def test_small_upright_jpegs_keep_their_bytes_and_others_are_encoded_anew(photographs, tmp_path):
    photographs.add("wild", 4)
    photographs.label(photographs.job(), tmp_path / "out")
    index = read_index(tmp_path / "out" / "manifest.parquet").set_index("sample_id")
    sizes = index[["image_height", "image_width"]].to_numpy().tolist()
    assert sizes == [[28, 42], [42, 28], [28, 42], [35, 28]]
    for number, is_kept in enumerate([True, True, False, False]):
        row = index.loc[f"wild-{number:03}"]
        tar = (tmp_path / "out" / "shards" / row["shard"]).read_bytes()
        stored = tar[row["jpg_offset"] : row["jpg_offset"] + row["jpg_bytes"]]
        source = (tmp_path / "wild" / f"{number:03}.jpg").read_bytes()
        assert (stored == source) == is_kept


def test_a_label_follows_the_grid_of_a_smaller_image(photographs, tmp_path):
    photographs.add("wild", 1)
    photographs.label(photographs.job(short_side_px=56), tmp_path / "out")
    sample = ShardReader(tmp_path / "out").read(0)
    assert sample.relative_depth.shape == (28, 42)
    image = decode_image(tmp_path / "wild" / "000.jpg")
    inputs = torch.from_numpy(np.array(resize_image(image, (56, 84))))[None]
    answer = photographs.teacher(normalise(inputs))[:, None]
    expected = F.interpolate(answer, (28, 42), mode="bilinear", align_corners=True)[0, 0]
    np.testing.assert_allclose(sample.relative_depth, expected.detach().numpy(), atol=1e-3)


def test_statistics_stand_in_the_index(photographs, tmp_path):
    photographs.add("wild", 8)
    photographs.label(photographs.job(check_fraction=1.0), tmp_path / "out")
    index = read_index(tmp_path / "out" / "manifest.parquet")
    reader = ShardReader(tmp_path / "out")
    for place, row in enumerate(index.itertuples()):
        label = reader.read(place).relative_depth
        assert row.label_min == pytest.approx(label.min(), abs=1e-6)
        assert row.label_p50 == pytest.approx(np.median(label), abs=1e-3)
        assert row.flip_inconsistency < 1e-5  # the teacher's blur is symmetric
        assert row.ramp_correlation > 0.5
    part = photographs.job(check_fraction=0.5)
    photographs.label(part, tmp_path / "out")
    index = read_index(tmp_path / "out" / "manifest.parquet")
    assert 0 < index["flip_inconsistency"].notna().sum() < 8


def test_a_label_is_compared_with_the_answer_at_another_resolution(photographs, tmp_path):
    photographs.add("wild", 8)
    photographs.label(photographs.job(check_fraction=0.5), tmp_path / "plain")
    seen = photographs.num_seen()
    (tmp_path / "again").mkdir()
    job = photographs.job(check_fraction=0.5, check_scale=1.5, store=tmp_path / "again")
    photographs.label(job, tmp_path / "checked")
    plain, checked = (
        read_index(tmp_path / name / "manifest.parquet") for name in ("plain", "checked")
    )
    assert plain["scale_inconsistency"].isna().all()
    measured = checked["scale_inconsistency"].notna()
    assert measured.equals(checked["flip_inconsistency"].notna())
    assert photographs.num_seen() == 2 * seen + measured.sum()
    assert checked.loc[measured, "scale_inconsistency"].between(0.001, 0.2).all()
    shards = tmp_path / "plain" / "shards", tmp_path / "checked" / "shards"
    assert tree(shards[0]) == tree(shards[1])


@pytest.mark.parametrize("codec", ["htj2k16", "htj2k12"])
def test_labels_of_every_codec_are_read_back_within_its_error(photographs, tmp_path, codec):
    photographs.add("wild", 4)
    photographs.label(photographs.job(), tmp_path / "plain")
    photographs.label(photographs.job(codec=codec), tmp_path / "packed")
    exact, packed = ShardReader(tmp_path / "plain"), ShardReader(tmp_path / "packed")
    for place in range(4):
        expected, got = exact.read(place), packed.read(place)
        assert got.sample_id == expected.sample_id
        np.testing.assert_allclose(
            got.relative_depth,
            expected.relative_depth,
            atol=np.ptp(expected.relative_depth) * (1 / 8190 + 1 / 131070),
        )
        assert np.array_equal(got.image, expected.image)


def test_a_shard_that_fails_once_is_tried_again_after_the_others(photographs, tmp_path):
    photographs.add("wild", 12)
    job = photographs.job(check_fraction=0.0, batch_size=1)
    (tmp_path / "other").mkdir()
    expected = photographs.job(check_fraction=0.0, batch_size=1, store=tmp_path / "other")
    photographs.label(expected, tmp_path / "expected", samples_per_shard=3)
    photographs.teacher.batch_sizes.clear()
    failures = iter([RuntimeError("a kernel did not start")])

    def fail_at_sixth(images):
        return photographs.num_seen() == 5 and next(failures, None) is not None

    photographs.fail_when(fail_at_sixth, RuntimeError("a kernel did not start"))
    photographs.label(job, tmp_path / "out", samples_per_shard=3)
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")
    assert 12 <= photographs.num_seen() <= 12 + 2  # of the shard that failed, what it had


def test_a_shard_that_fails_three_times_is_set_aside_and_tried_again_by_the_next_run(
    photographs, tmp_path, caplog
):
    photographs.add("wild", 12)
    job = photographs.job(check_fraction=0.0, batch_size=1)
    repair = photographs.fail_when(
        lambda images: photographs.num_seen() == 11, RuntimeError("no\nmore")
    )
    finished = photographs.label(job, tmp_path / "out", samples_per_shard=3)
    ((shard, record),) = [pair for pair in finished if pair[1].set_aside]
    assert record.set_aside == "RuntimeError: no"
    assert caplog.text.count(f"{shard.name}: attempt ") == 3
    assert "attempt 3 of 3: RuntimeError: no" in caplog.text
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert summary["num_shards_set_aside"] == 1
    assert summary["num_quarantined"] == len(shard.rows)
    reasons = read_refused(photographs.store, [shard])["reason"].to_pylist()
    assert all("set aside with its shard after 3 failures: RuntimeError: no" in r for r in reasons)
    assert not list(photographs.store.glob(".*"))
    repair()
    num_seen = photographs.num_seen()
    finished = photographs.label(job, samples_per_shard=3)
    assert sum(record.num_samples for _, record in finished) == 12
    assert photographs.num_seen() - num_seen == len(shard.rows)


def test_a_teacher_that_never_answers_stops_the_run_after_ten_shards(photographs):
    photographs.add("wild", 60)
    photographs.fail_when(lambda images: True, RuntimeError("no device"))
    with pytest.raises(
        ValueError,
        match=r"expected shards to succeed, got 10 in a row that failed, the last: .*no device",
    ):
        photographs.label(photographs.job(), samples_per_shard=3)
    assert not list(photographs.store.glob("*/record.json"))


def test_every_sample_is_told_once_where_a_shard_is_set_aside(photographs):
    photographs.add("wild", 12)
    job = photographs.job(check_fraction=0.0, batch_size=1)
    photographs.fail_when(lambda images: photographs.num_seen() == 7, RuntimeError("no more"))
    shards = plan_shards(job.manifest, samples_per_shard=4, recipe=job.recipe)
    told = []
    attempts = list(label_shards("inline", shards, job, on_samples=told.append))
    assert "RuntimeError: no more" in [attempt.record.set_aside for attempt in attempts]
    assert sum(told) == 12


def test_a_full_disk_stops_the_run_and_leaves_whole_shards(photographs, monkeypatch):
    photographs.add("wild", 12)
    write, num_written = ShardWriter.add, []

    def fill(writer, sample_id, **parts):
        num_written.append(sample_id)
        if len(num_written) > 7:
            raise OSError(errno.ENOSPC, "No space left on device", "shard.tar")
        return write(writer, sample_id, **parts)

    monkeypatch.setattr(ShardWriter, "add", fill)
    with pytest.raises(OSError, match=r"No space left on device: 'shard.tar'"):
        photographs.label(photographs.job(), samples_per_shard=3)
    assert list(photographs.store.iterdir())
    assert all((path / "record.json").is_file() for path in photographs.store.iterdir())
    monkeypatch.setattr(ShardWriter, "add", write)
    finished = photographs.label(photographs.job(), samples_per_shard=3)
    assert sum(record.num_samples for _, record in finished) == 12


def test_a_slow_store_holds_the_teacher_back(photographs, monkeypatch):
    photographs.add("wild", 60)
    write, most_ahead = ShardWriter.add, []

    def wait(writer, sample_id, **parts):
        time.sleep(0.002)
        most_ahead.append(photographs.num_seen() - len(most_ahead))
        return write(writer, sample_id, **parts)

    monkeypatch.setattr(ShardWriter, "add", wait)
    job = photographs.job(batch_size=2, check_fraction=0.0)
    photographs.label(job, samples_per_shard=60)
    assert len(most_ahead) == 60
    assert max(most_ahead) <= (3 + 1) * 2 * 2 + 2  # batches ahead of writing and of encoding
