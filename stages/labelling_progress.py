"""How fast a labelling goes, what it has cost, and what failed: to the terminal and to MLflow."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

    from dav2.labeling.attempts import Attempt
    from stages.labelling_spent import SpentLog
    from stages.tracking import Run


class Progress:
    """Adds up what the workers of one labelling report."""

    def __init__(
        self, run: "Run", bar: "tqdm[NoReturn]", spent: "SpentLog", *, on_gpu: bool
    ) -> None:
        """Starts with nothing done.

        Args:
            run: Gets the numbers.
            bar: Gets rates and failures behind its own rate and time left; others advance it.
            spent: Gets each attempt, and knows what earlier runs have spent.
            on_gpu: Whether each worker holds a GPU.
        """
        self._run = run
        self._bar = bar
        self._spent = spent
        self._on_gpu = on_gpu
        self._num_images: Counter[str] = Counter()
        self._seconds: dict[str, float] = defaultdict(float)
        self._energy_j: list[float | None] = []
        self._totals: Counter[str] = Counter()

    def add(self, attempt: "Attempt") -> None:
        """Counts an attempt at a shard, one that failed too."""
        self._spent.add(attempt)
        worker, is_done = attempt.worker, attempt.record is not None
        num_images = len(attempt.shard.rows) if is_done else 0
        self._num_images[worker] += num_images
        self._seconds[worker] += attempt.seconds
        self._energy_j.append(attempt.energy_j)
        self._totals["num_failures"] += not is_done
        self._totals["num_batches_halved"] += attempt.num_halved
        done = sum(self._num_images.values())
        if is_done and attempt.seconds > 0:
            rate = num_images / attempt.seconds
            self._run.log_metrics({f"worker_{worker}/images_per_second": rate}, step=done)
        rates = "+".join(f"{self._rate(worker):.3g}" for worker in sorted(self._num_images))
        self._bar.set_postfix_str(f"{rates}/s, {self._totals['num_failures']} failures")

    def finish(self, *, gpu_hour_price: float | None) -> None:
        """Records the totals of this run, and of all that made these labels.

        Args:
            gpu_hour_price: Of one GPU; None for no cost.
        """
        facts = self._of_this_run() | self._of_all_runs(gpu_hour_price)
        self._run.log_metrics(facts)
        self._run.add_facts({name: round(value, 3) for name, value in facts.items()})

    def _of_this_run(self) -> dict[str, float]:
        if not self._seconds:
            return {}
        seconds, num_images = self._spent.elapsed_s(), sum(self._num_images.values())
        facts: dict[str, float] = {
            "images_per_second": num_images / seconds,
            "labelling_s": seconds,
            "num_images": num_images,
            "num_workers": len(self._seconds),
            **self._totals,
        }
        if self._on_gpu:  # held from start to end, busy or not: that is what is paid
            facts["gpu_seconds"] = seconds * len(self._seconds)
        energy_j = [joules for joules in self._energy_j if joules is not None]
        if energy_j:
            facts["energy_j"] = sum(energy_j)
        return facts

    def _of_all_runs(self, gpu_hour_price: float | None) -> dict[str, float]:
        spent = self._spent.end()
        if not spent.labelling_s:
            return {}
        facts: dict[str, float] = {
            "total_labelling_s": spent.labelling_s,
            "total_num_images": spent.num_images,
            "total_num_failures": spent.num_failures,
        }
        if spent.energy_j is not None:
            facts["total_energy_j"] = spent.energy_j
        if self._on_gpu:
            facts["total_gpu_seconds"] = spent.worker_s
            if gpu_hour_price is not None and spent.num_images:
                cost = spent.worker_s / 3600 * gpu_hour_price
                facts["cost_per_thousand_images"] = cost / spent.num_images * 1000
        return facts

    def _rate(self, worker: str) -> float:
        seconds = self._seconds[worker]
        return self._num_images[worker] / seconds if seconds > 0 else 0.0
