"""How fast a labelling goes, what it has cost, and what failed: to the terminal and to MLflow."""

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

    from dav2.labeling.attempts import Attempt
    from stages.tracking import Run


class Progress:
    """Adds up what the workers of one labelling report."""

    def __init__(self, run: "Run", bar: "tqdm[NoReturn]", *, on_gpu: bool) -> None:
        """Starts the clock.

        Args:
            run: Gets the numbers.
            bar: Gets rates and failures behind its own rate and time left; others advance it.
            on_gpu: Whether each worker holds a GPU.
        """
        self._run = run
        self._bar = bar
        self._on_gpu = on_gpu
        self._started_s = time.monotonic()
        self._num_images: Counter[str] = Counter()
        self._seconds: dict[str, float] = defaultdict(float)
        self._energy_j: list[float | None] = []
        self._totals: Counter[str] = Counter()

    def add(self, attempt: "Attempt") -> None:
        """Counts a shard that is finished, or set aside."""
        worker, num_images = attempt.worker, len(attempt.shard.rows)
        self._num_images[worker] += num_images
        self._seconds[worker] += attempt.seconds
        self._energy_j.append(attempt.energy_j)
        self._totals["num_failures"] += attempt.num_failures
        self._totals["num_batches_halved"] += attempt.num_halved
        done = sum(self._num_images.values())
        if attempt.seconds > 0:
            rate = num_images / attempt.seconds
            self._run.log_metrics({f"worker_{worker}/images_per_second": rate}, step=done)
        rates = "+".join(f"{self._rate(worker):.3g}" for worker in sorted(self._num_images))
        self._bar.set_postfix_str(f"{rates}/s, {self._totals['num_failures']} failures")

    def finish(self, *, gpu_hour_price: float | None) -> None:
        """Records the totals of the run.

        Args:
            gpu_hour_price: Of one GPU; None for no cost.
        """
        seconds = time.monotonic() - self._started_s
        num_images = sum(self._num_images.values())
        facts = {"images_per_second": num_images / seconds, "labelling_s": seconds}
        facts |= dict(self._totals)
        facts["num_workers"] = len(self._num_images)
        if self._on_gpu:  # held from start to end, busy or not: that is what is paid
            facts["gpu_seconds"] = seconds * len(self._num_images)
            if gpu_hour_price is not None:
                cost = facts["gpu_seconds"] / 3600 * gpu_hour_price
                facts["cost_per_thousand_images"] = cost / num_images * 1000
        energy_j = [joules for joules in self._energy_j if joules is not None]
        if energy_j:
            facts["energy_j"] = sum(energy_j)
        self._run.log_metrics(facts)
        rounded = {name: round(value, 3) for name, value in facts.items()}
        self._run.add_facts({**rounded, "num_images": num_images})

    def _rate(self, worker: str) -> float:
        seconds = self._seconds[worker]
        return self._num_images[worker] / seconds if seconds > 0 else 0.0
