"""Rates, GPU-seconds and costs, worked out by hand."""

from types import SimpleNamespace

import pytest

from dav2.labeling.attempts import Attempt
from dav2.labeling.plan import PlannedShard
from stages.labelling_progress import Progress


class Run:
    def __init__(self):
        self.metrics = []
        self.facts = {}

    def log_metrics(self, metrics, step=0):
        self.metrics += [(name, value, step) for name, value in metrics.items()]

    def add_facts(self, facts):
        self.facts |= facts


@pytest.fixture
def finished(monkeypatch):
    """Two workers label 40 and 20 images in 10 seconds; returns the run and the line shown."""

    def run(*, on_gpu, price):
        times = iter([100.0, 110.0])
        monkeypatch.setattr("stages.labelling_progress.time.monotonic", lambda: next(times))
        recorded, shown = Run(), []
        bar = SimpleNamespace(set_postfix_str=shown.append)
        progress = Progress(recorded, bar, on_gpu=on_gpu)
        for worker, seconds, joules, failures in [
            ("0", 4.0, 700.0, 0),
            ("1", 8.0, None, 1),
            ("0", 4.0, 300.0, 0),
        ]:
            shard = PlannedShard(f"wild-b{seconds}", "k", tuple(range(20)))
            progress.add(
                Attempt(
                    shard,
                    record=None,
                    failure="",
                    worker=worker,
                    seconds=seconds,
                    energy_j=joules,
                    num_failures=failures,
                )
            )
        progress.finish(gpu_hour_price=price)
        return recorded, shown

    return run


def test_each_worker_has_its_rate_by_the_number_of_images_done(finished):
    run, shown = finished(on_gpu=False, price=None)
    assert run.metrics[:3] == [
        ("worker_0/images_per_second", 5.0, 20),
        ("worker_1/images_per_second", 2.5, 40),
        ("worker_0/images_per_second", 5.0, 60),
    ]
    assert shown == ["5/s, 0 failures", "5+2.5/s, 1 failures", "5+2.5/s, 1 failures"]


def test_gpus_are_paid_from_start_to_end(finished):
    run, _ = finished(on_gpu=True, price=3.6)
    # 2 GPUs x 10 s x 3.6 / 3600 s = 0.02 for 60 images.
    assert run.facts == {
        "images_per_second": 6.0,
        "labelling_s": 10.0,
        "num_failures": 1,
        "num_batches_halved": 0,
        "num_workers": 2,
        "gpu_seconds": 20.0,
        "cost_per_thousand_images": pytest.approx(0.333, abs=1e-3),
        "energy_j": 1000.0,
        "num_images": 60,
    }


def test_a_cpu_has_neither_gpu_seconds_nor_a_price(finished):
    run, _ = finished(on_gpu=False, price=3.6)
    assert not {"gpu_seconds", "cost_per_thousand_images"} & set(run.facts)
