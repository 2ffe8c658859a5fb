"""Which stages may run now: what they need has ended, and a slot is free."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.graph import Stage

GPU_STAGES = (
    "warm_encoder",
    "train_teacher",
    "pseudo_label",
    "train_student",
    "train_student_both",
    "train_student_warm",
    "train_student_live",
    "finetune_metric",
    "evaluate",
)
"""Stages that take a GPU slot where there are any."""


@dataclass
class Plan:
    """The state of a run, as far as starting the next stage is concerned."""

    stages: Mapping[str, Stage]
    free_cpu: int
    """Stages that may run at once beside those on GPUs."""
    free_gpus: list[str]
    """Devices of each GPU slot, as CUDA_VISIBLE_DEVICES has them; none: all take CPU slots."""
    states: dict[str, str] = field(default_factory=dict)
    """How stages ended, by name."""
    running: dict[str, str | None] = field(default_factory=dict)
    """The devices of stages that run; None for a CPU slot."""

    def __post_init__(self) -> None:
        if self.free_cpu < 1:
            raise ValueError(f"cpu_slots: expected at least 1, got {self.free_cpu}")
        self.has_gpus = bool(self.free_gpus)

    def next(self) -> Stage | None:
        """Returns a stage to start now, its slot taken; None if there is none."""
        for stage in self.stages.values():
            ready = all(above in self.states for above in stage.upstream)
            if stage.name in self.states or stage.name in self.running or not ready:
                continue
            if self.has_gpus and stage.name.partition("@")[0] in GPU_STAGES:
                if self.free_gpus:
                    self.running[stage.name] = self.free_gpus.pop(0)
                    return stage
            elif self.free_cpu:
                self.free_cpu -= 1
                self.running[stage.name] = None
                return stage
        return None

    def ended(self, name: str, state: str) -> None:
        """Records how a stage ended and frees its slot."""
        self.states[name] = state
        device = self.running.pop(name)
        if device is None:
            self.free_cpu += 1
        else:
            self.free_gpus.append(device)
