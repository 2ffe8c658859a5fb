"""Jobs in processes: kept when finished, redone only when not."""

import json

import pytest

from dav2.rendering.work import run_jobs


def square(job, folder):
    """Writes a job's file; job 3 fails."""
    if job == 3:
        raise ValueError("job 3: expected another number, got 3")
    path = folder / f"{job}.txt"
    path.write_text(path.read_text() + "again" if path.exists() else "once")
    return {"square": job * job}


def test_records_come_in_order_whatever_the_number_of_processes(tmp_path):
    for num_workers in (1, 2):
        records = run_jobs(
            [5, 1, 4], square, tmp_path / str(num_workers), num_workers=num_workers, label="x"
        )
        assert records == [{"square": 25}, {"square": 1}, {"square": 16}]
    assert (tmp_path / "2" / "files" / "4.txt").read_text() == "once"


def test_a_restart_redoes_only_what_has_no_record(tmp_path):
    with pytest.raises(ValueError, match="job 3: expected another number"):
        run_jobs([1, 2, 3, 4], square, tmp_path, num_workers=1, label="x")
    assert sorted(path.name for path in (tmp_path / "records").iterdir()) == [
        "00000.json",
        "00001.json",
    ]
    (tmp_path / "records" / "00001.json").unlink()
    records = run_jobs([1, 2, 6, 4], square, tmp_path, num_workers=1, label="x")
    texts = {path.name: path.read_text() for path in (tmp_path / "files").iterdir()}
    assert texts == {"1.txt": "once", "2.txt": "onceagain", "6.txt": "once", "4.txt": "once"}
    assert [record["square"] for record in records] == [1, 4, 36, 16]
    assert json.loads((tmp_path / "records" / "00002.json").read_text()) == {"square": 36}
