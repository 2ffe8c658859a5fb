"""The table of `make bench-label`: what a CPU has no figures for is not in it."""

import pytest
import torch
from torch import nn

from benchmarks.labelling import ModelClock, header, main


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_each_row_of_a_cpu_has_the_columns_of_its_header(capsys):
    main(
        [
            *("--encoders", "vit64x4", "--device", "cpu", "--num-images", "3", "--rounds", "1"),
            *("--size", "28", "42", "--short-side-px", "28", "--batch-size", "2", "--threads", "1"),
        ]
    )
    *_, head, rule, row = capsys.readouterr().out.splitlines()
    assert f"{head}\n{rule}" == header("cpu")
    assert "GPU" not in head
    assert "790" not in head
    assert head.count("|") == rule.count("|") == row.count("|")
    values = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert float(values["labelling/s"]) > 0
    assert float(values["cores to hide it"]) > 0


def test_on_a_gpu_its_busy_time_and_its_share_of_the_peak_are_columns():
    assert header("cuda").splitlines()[0].endswith("| TFLOP/s | of 790 | GPU busy |")


@pytest.mark.gpu
def test_the_clock_counts_passes_through_the_model_alone():
    model = nn.Linear(4096, 4096).cuda()
    clock = ModelClock(model)
    images = torch.zeros(4096, 4096, device="cuda")
    model(images)  # the first takes longer
    clock.take_s()
    torch.cuda._sleep(10**9)
    assert clock.take_s() == 0
    model(images)
    assert 0 < clock.take_s() < 0.1
