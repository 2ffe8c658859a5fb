"""The benchmark of trainings: what it counts, and that its loops train."""

import json
import subprocess

import pytest
import torch

from benchmarks.training import main
from benchmarks.training_loops import Watch, step_flops
from benchmarks.training_samples import write_shards
from dav2.training.samples import PseudoLabels

SMALL = [
    "--encoders=vit64x4", "--ways=bfloat16", "--crop", "28", "42", "--batch-size=2", "--samples=4",
    "--steps=2", "--warmup=1", "--rounds=1", "--threads=1", "--workers=0", "--device=cpu",
    "--align-features",
]  # fmt: skip


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_counts_the_published_operations_of_the_small_model():
    counted = step_flops("vits", (518, 518), aligned=True)
    # timm: 46.76 GMAC. With the head 115.27 GFLOP as the authors wrote it; ours fuses at half size.
    assert counted["frozen encoder"] == pytest.approx(2 * 46.76e9, rel=0.003)
    assert counted["forward"] == pytest.approx(115.27e9, rel=0.01)
    # The first layer's input needs no gradient.
    assert 1.98 < counted["backward"] / counted["forward"] < 2


def test_made_shards_are_read_as_pseudo_labels(tmp_path):
    write_shards(tmp_path, 3, (42, 56))
    samples = PseudoLabels(tmp_path)
    assert len(samples.sample_ids) == 3
    sample = samples.read(1)
    assert sample.image.shape == (42, 56, 3)
    assert sample.target.shape == (42, 56)
    assert sample.target.std() > 0.1


def test_warm_up_counts_neither_as_time_nor_as_waiting(monkeypatch):
    clock = [0.0]

    def slow(seconds):
        for taken in seconds:
            clock[0] += taken
            yield taken

    monkeypatch.setattr("benchmarks.training_loops.time.perf_counter", lambda: clock[0])
    watch = Watch(slow([10.0, 1.0, 2.0]), num_warmup=1, device="cpu")
    for _ in watch:
        clock[0] += 3.0  # the step
        watch.step_done()
    timed = watch.result()
    assert timed.waited_s == 3.0
    assert timed.seconds == 9.0


@pytest.mark.parametrize("source", ["shards", "tensors"])
def test_prints_a_row_of_what_it_measured_and_writes_it(source, tmp_path, capsys, monkeypatch):
    counted = {"forward": 10, "backward": 20}
    monkeypatch.setattr("benchmarks.training.step_flops", lambda *_, **__: counted)
    monkeypatch.setattr("benchmarks.training.matrix_rate", lambda *_: 1000.0)
    main([*SMALL, "--source", source, "--out", str(tmp_path)])
    found = json.loads((tmp_path / f"vit64x4-bfloat16-{source}.json").read_text())
    assert set(found["samples_per_second"]) == {"loader", "step", "both", "plain"}
    assert all(rate > 0 for rate in found["samples_per_second"].values())
    assert 0 < found["waits"] < 1  # without processes it waits for every batch
    assert found["flops_per_second"] == 30 * found["samples_per_second"]["step"]
    shown = capsys.readouterr().out
    assert shown == (tmp_path / f"{source}.md").read_text()
    header, _, line = shown.splitlines()[2:]
    assert line.startswith("| vit64x4 | bfloat16 | 2 |")
    assert f"| {found['flops_per_second'] / 1000:.0%} |" in line
    assert line.count("|") == header.count("|")


def test_a_model_that_fails_costs_the_others_nothing(tmp_path, capsys, monkeypatch):
    started = []

    def run(command, **options):
        started.append(command)
        return subprocess.CompletedProcess(command, 1, "", "Traceback\n\nno memory\n")

    monkeypatch.setattr("benchmarks.training.subprocess.run", run)
    main([*SMALL, "--source=tensors", f"--out={tmp_path}", "--encoders", "vit64x4", "vit128x6"])
    lines = capsys.readouterr().out.splitlines()[4:]
    assert [line.split(" | ")[:3] for line in lines] == [
        ["| vit64x4", "bfloat16", "no memory"],
        ["| vit128x6", "bfloat16", "no memory"],
    ]
    assert [command[-6:-4] for command in started] == [
        ["--encoders", "vit64x4"],
        ["--encoders", "vit128x6"],
    ]
    assert len(list(tmp_path.glob("*.json"))) == 2
