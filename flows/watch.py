"""Looks whether a source has changed; ingests and gates what is new, then has all rebuilt.

`python -m flows.watch [source ...]`; every quarter of an hour where prefect.yaml is deployed.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed
from ruamel.yaml import YAML

from flows.graph import read_graph
from flows.guard import end_with_worker
from flows.rebuild import rebuild
from flows.sessions import Log, Sessions, end_children
from flows.stage_runs import child_environment, dvc_command

EVENT = "dav2.rebuild-wanted"
"""What prefect.yaml starts a rebuild upon."""
RESOURCE = "dav2.pipeline"


@flow(name="watch")
def watch(sources: list[str] | None = None) -> State[Any]:
    """Wants a rebuild if data changed and its gate lets them pass; fails if the gate does not.

    A source with a listing is listed anew (`python -m stages.snapshot`); DVC tells what changed.

    Args:
        sources: Of params.yaml; none for all.
    """
    end_with_worker()
    with Sessions() as sessions:
        known = _known_sources(sources)
        for name in listed(known):
            list_anew(name, sessions)
        changed = changed_sources({name: entry["watch"] for name, entry in known.items()}, sessions)
    if not changed:
        return Completed(name="UpToDate", message=f"{len(known)} sources, none changed")
    reason = f"{', '.join(changed)} changed"
    gated = rebuild(["gate_data"], reason=reason, return_state=True)
    if not gated.is_completed():
        return Failed(message=f"{reason}: {gated.message}")
    want_rebuild(reason)
    return Completed(message=f"{reason}, and its gate passed: a rebuild is wanted")


@task(cache_policy=NO_CACHE, persist_result=False)
def list_anew(source: str, sessions: Sessions) -> None:
    """Writes the listing of one source."""
    command = [sys.executable, "-m", "stages.snapshot", source]
    _run(command, sessions, get_run_logger())


@task(cache_policy=NO_CACHE, persist_result=False)
def changed_sources(watched: Mapping[str, str], sessions: Sessions) -> list[str]:
    """Returns the sources whose listing or folder is another than when they were last ingested.

    Args:
        watched: For each source the path that DVC compares.
        sessions: Owner of the processes.
    """
    stages = [name for name in read_graph() if name.partition("ingest@")[2] in watched]
    command = dvc_command("--quiet", "--wait-for-lock", "status", "--json", *stages)
    said = _run(command, sessions, get_run_logger(), expected=(0, 1))
    found = json.loads(said.splitlines()[-1]) if said else {}
    return [name for name, path in watched.items() if _names(found.get(f"ingest@{name}"), path)]


def want_rebuild(reason: str) -> None:
    """Emits the event upon which prefect.yaml starts a rebuild."""
    emit_event(EVENT, resource={"prefect.resource.id": RESOURCE}, payload={"reason": reason})


def listed(sources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the sources with a listing: those that watch something outside their root."""
    return [
        name
        for name, source in sources.items()
        if "://" in source["root"]
        or not Path(source["watch"]).resolve().is_relative_to(Path(source["root"]).resolve())
    ]


def _known_sources(chosen: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    known = YAML(typ="safe").load(Path("params.yaml"))["sources"]
    if unknown := set(chosen or ()) - set(known):
        raise ValueError(f"params.yaml: expected sources {sorted(known)}, got {sorted(unknown)}")
    return {name: source for name, source in known.items() if name in (chosen or known)}


def _names(changes: Any, path: str) -> bool:
    """Tells whether DVC's list of changes of one stage has a dependency in it."""
    entries = [entry for entry in changes or () if isinstance(entry, dict)]
    return any(path in entry.get("changed deps", {}) for entry in entries)


def _run(
    command: Sequence[str], sessions: Sessions, log: Log, expected: Sequence[int] = (0,)
) -> str:
    status, output = sessions.run(
        command, root=Path.cwd(), log=log, environment=child_environment()
    )
    if status not in expected:
        last = (output.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{' '.join(command)}: expected exit status 0, got {status}: {last}")
    return output


def main(arguments: Sequence[str]) -> int:
    """Runs the flow as the command line says; returns 1 if a gate held something back."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.watch", description="Ingest and gate what changed at a source."
    )
    parser.add_argument("sources", nargs="*", help="of params.yaml; default: all")
    options = parser.parse_args(arguments)
    older = psutil.Process().children()
    try:
        state = watch(options.sources or None, return_state=True)
    except BaseException:
        end_children(older)  # Prefect would leave the server that it started for this run
        raise
    sys.stdout.write(f"{state.message}\n")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
