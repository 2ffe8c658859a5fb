"""Rates, GPU-seconds and costs, worked out by hand."""

from types import SimpleNamespace

import pytest

from dav2.labeling.attempts import Attempt
from dav2.labeling.plan import PlannedShard
from stages.labelling_progress import Progress
from stages.labelling_spent import Spent
from tests.fixtures.shard_records import RECORD


class Run:
    def __init__(self):
        self.metrics = []
        self.facts = {}

    def log_metrics(self, metrics, step=0):
        self.metrics += [(name, value, step) for name, value in metrics.items()]

    def add_facts(self, facts):
        self.facts |= facts


class Log:
    """Ten seconds of this run, and an earlier one."""

    def __init__(self):
        self.attempts = []
        self.add = self.attempts.append

    def elapsed_s(self):
        return 10.0

    def end(self):
        return Spent(
            labelling_s=40.0, worker_s=50.0, energy_j=1500.0, num_images=100, num_failures=3
        )


@pytest.fixture
def finished():
    """Two workers label 40 and 20 images in 10 seconds, one shard at the second attempt."""

    def run(*, on_gpu, price):
        recorded, shown, log = Run(), [], Log()
        bar = SimpleNamespace(set_postfix_str=shown.append)
        progress = Progress(recorded, bar, log, on_gpu=on_gpu)
        for worker, seconds, joules, is_done in [
            ("0", 4.0, 700.0, True),
            ("1", 3.0, None, False),
            ("1", 5.0, None, True),
            ("0", 4.0, 300.0, True),
        ]:
            shard = PlannedShard(f"wild-b{seconds}", "k", tuple(range(20)))
            progress.add(
                Attempt(
                    shard,
                    record=RECORD if is_done else None,
                    failure="" if is_done else "no answer",
                    worker=worker,
                    seconds=seconds,
                    energy_j=joules,
                )
            )
        progress.finish(gpu_hour_price=price)
        assert len(log.attempts) == 4
        return recorded, shown

    return run


def test_each_worker_has_its_rate_by_the_number_of_images_done(finished):
    run, shown = finished(on_gpu=False, price=None)
    assert run.metrics[:3] == [
        ("worker_0/images_per_second", 5.0, 20),
        ("worker_1/images_per_second", 4.0, 40),
        ("worker_0/images_per_second", 5.0, 60),
    ]
    assert shown == [
        "5/s, 0 failures",
        "5+0/s, 1 failures",
        "5+2.5/s, 1 failures",
        "5+2.5/s, 1 failures",
    ]


def test_gpus_are_paid_from_start_to_end_of_every_run(finished):
    run, _ = finished(on_gpu=True, price=3.6)
    assert run.facts == {
        "images_per_second": 6.0,
        "labelling_s": 10.0,
        "num_failures": 1,
        "num_batches_halved": 0,
        "num_workers": 2,
        "gpu_seconds": 20.0,
        "energy_j": 1000.0,
        "num_images": 60,
        "total_labelling_s": 40.0,
        "total_gpu_seconds": 50.0,
        "total_energy_j": 1500.0,
        "total_num_images": 100,
        "total_num_failures": 3,
        # 50 GPU-seconds x 3.6 / 3600 s = 0.05 for 100 images.
        "cost_per_thousand_images": pytest.approx(0.5),
    }


def test_a_cpu_has_neither_gpu_seconds_nor_a_price(finished):
    run, _ = finished(on_gpu=False, price=3.6)
    words = {"gpu_seconds", "total_gpu_seconds", "cost_per_thousand_images"}
    assert not words & set(run.facts)


def test_a_run_without_attempts_records_what_others_have_spent():
    run = Run()
    Progress(run, None, Log(), on_gpu=True).finish(gpu_hour_price=3.6)
    assert run.facts["cost_per_thousand_images"] == pytest.approx(0.5)
    assert all(name.startswith(("total_", "cost_")) for name in run.facts)


def test_a_run_of_which_nothing_is_known_has_no_facts():
    run, log = Run(), Log()
    log.end = lambda: Spent(0.0, 0.0, None, 0, 0)
    Progress(run, None, log, on_gpu=True).finish(gpu_hour_price=3.6)
    assert run.facts == {}
    log.end = lambda: Spent(9.0, 9.0, None, 0, 1)  # nothing but a failure
    Progress(run, None, log, on_gpu=True).finish(gpu_hour_price=3.6)
    assert set(run.facts) == {
        "total_labelling_s",
        "total_num_images",
        "total_num_failures",
        "total_gpu_seconds",
    }
