"""The pipeline as DVC itself sees it: stages, what each waits for, what each writes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

COLOURS = {
    "Completed": "#2e7d32",
    "UpToDate": "#9e9e9e",
    "Restored": "#1565c0",
    "Failed": "#c62828",
    "NotRun": "#ef6c00",
}
"""Fill of a stage in the drawing, by how it ended."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One node of the pipeline."""

    name: str
    """DVC's address, as `evaluate@teacher`."""
    command: str
    upstream: tuple[str, ...]
    """Stages whose outputs it reads, sorted."""
    outputs: tuple[str, ...]
    """Paths relative to the project's root."""
    metrics: tuple[str, ...] = ()
    """Those of the outputs that are metrics."""


def read_graph(targets: Iterable[str] = ()) -> dict[str, Stage]:
    """Returns the stages of the current folder so that each stands after all it waits for.

    Args:
        targets: Stages wanted, with all they need; a name without `@` takes its whole group, none
            takes the pipeline.

    Raises:
        ValueError: If a target is no stage.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph
        stages = {
            node.addressing: Stage(
                name=node.addressing,
                command=node.cmd or "",
                upstream=tuple(sorted(above.addressing for above in graph.successors(node))),
                outputs=tuple(str(out) for out in node.outs),
                metrics=tuple(str(out) for out in node.outs if out.metric),
            )
            for node in graph
            if node.is_data_source is False
        }
    wanted = _with_upstream(stages, _expand(stages, targets))
    return _in_order({name: stage for name, stage in stages.items() if name in wanted})


def mermaid(stages: Mapping[str, Stage], states: Mapping[str, str]) -> str:
    """Returns the graph as a mermaid drawing, each stage coloured by how it ended.

    Args:
        stages: The graph.
        states: A key of `COLOURS` per stage; stages it does not name stay plain.
    """
    number = {name: f"s{index}" for index, name in enumerate(stages)}
    lines = ["flowchart TD"]
    lines += [f'  {number[name]}["{name}"]' for name in stages]
    lines += [
        f"  {number[above]} --> {number[name]}"
        for name, stage in stages.items()
        for above in stage.upstream
        if above in number
    ]
    lines += [f"  classDef {state} fill:{fill},color:#fff" for state, fill in COLOURS.items()]
    lines += [f"  class {number[name]} {state}" for name, state in states.items()]
    return "\n".join(lines)


def _expand(stages: Mapping[str, Stage], targets: Iterable[str]) -> set[str]:
    chosen: set[str] = set()
    for target in targets:
        matching = {name for name in stages if target in (name, name.partition("@")[0])}
        if not matching:
            raise ValueError(f"dvc.yaml: expected a stage named {target!r}, got {sorted(stages)}")
        chosen |= matching
    return chosen or set(stages)


def _with_upstream(stages: Mapping[str, Stage], names: set[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in stages and name not in found:
            found.add(name)
            waiting += stages[name].upstream
    return found


def _in_order(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Sorts topologically; among the ready ones dvc.yaml's order decides."""
    ordered: dict[str, Stage] = {}
    while len(ordered) < len(stages):
        ready = next(
            stage
            for name, stage in stages.items()
            if name not in ordered
            and all(above in ordered for above in stage.upstream if above in stages)
        )
        ordered[ready.name] = ready
    return ordered
