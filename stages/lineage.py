"""Prints where a registered model comes from, and which versions come from something.

python -m stages.lineage depth-relative-vits@champion
python -m stages.lineage <hash of data or weights, commit, or id of a run>
"""

import json
import sys
from typing import Any

from stages.program import run as run_program
from stages.registry import aliases, connect, model_uri

_SHORT = 12


def main(what: str) -> None:
    """Prints a version's chain, or the versions that a hash, a commit or a run leads to.

    Args:
        what: `<registered model>@<alias>`, `<registered model>/<version>`, or a hash or id of at
            least seven characters.

    Raises:
        ValueError: If there is no such version, or nothing registered comes from it.
    """
    client = connect()
    if "@" in what or "/" in what:
        version = _version(client, what)
        lines = chain(client, version)
    else:
        lines = descendants(client, what)
    sys.stdout.write("\n".join(lines) + "\n")


def chain(client: Any, version: Any) -> list[str]:
    """Returns lines from metrics over runs and commit to data, of one version.

    Args:
        client: From `stages.registry.connect`.
        version: MLflow's model version.
    """
    tags = version.tags
    outputs = _under(tags, "dvc.out.")
    (metrics,) = [path for path in outputs if path.endswith("/metrics.json")]
    names = [
        alias
        for alias, number in aliases(client, version.name).items()
        if number == str(version.version)
    ]
    lines = [f"{version.name} version {version.version} {' '.join(sorted(names))}".rstrip()]
    lines += _block(
        "metrics",
        {name: _shown(json.loads(values)) for name, values in _under(tags, "metrics.").items()},
    )
    lines += _block("tables, by DVC's hash", outputs)
    runs = {
        "evaluation": _runs(client, metrics, outputs[metrics]),
        "training": _runs(client, tags["weights.path"], tags["weights.md5"]),
        "registration": tags["evidence.run_id"],
    }
    lines += _block("runs (MLflow)", runs)
    lines += _block("weights", {tags["weights.path"]: tags["weights.md5"]})
    committed = "holds" if tags["git.has_lock"] == "true" else "does NOT hold"
    commit = {
        tags["git.commit"]: f"{committed} this dvc.lock ({tags['dvc.lock.md5']})",
    }
    lines += _block("commit", commit)
    lines += _block("made from, by DVC's hash", _under(tags, "dvc.in."))
    lines += _block("sources", {source: "" for source in json.loads(tags["sources"])})
    lines += _block("gates", _under(tags, "gate."))
    if tags["git.has_lock"] == "true":
        lines += [
            "",
            f"To bring the data back: git checkout {tags['git.commit'][:_SHORT]} && dvc pull",
        ]
    return lines


def descendants(client: Any, what: str) -> list[str]:
    """Returns a line for each version that something led to.

    Args:
        client: From `stages.registry.connect`.
        what: A hash of data or weights, a commit, or a run of a training or evaluation; of hashes
            the first seven characters do.

    Raises:
        ValueError: If it is shorter, or no version comes from it.
    """
    if len(what) < 7:
        raise ValueError(f"lineage: expected at least 7 characters of a hash, got {what!r}")
    wanted = _made_by(client, what) | {what}
    lines = []
    for version in client.search_model_versions(max_results=10_000):
        for key, value in sorted(version.tags.items()):
            if any(value.startswith(start) for start in wanted):
                lines.append(f"{version.name} version {version.version}: {key} {value}")
    if not lines:
        raise ValueError(f"{what}: expected a hash or run that led to a version, got none")
    return lines


def _version(client: Any, what: str) -> Any:
    model_uri(what)
    name, at, alias = what.partition("@")
    if not at:
        name, _, number = what.partition("/")
    else:
        known = aliases(client, name)
        if alias not in known:
            raise ValueError(f"{what}: expected one of {', '.join(known) or 'no alias'}")
        number = known[alias]
    found = [
        v for v in client.search_model_versions(f"name = '{name}'") if str(v.version) == number
    ]
    if not found:
        raise ValueError(f"{what}: expected a registered version, got none")
    return found[0]


def _runs(client: Any, path: str, md5: str) -> str:
    """Returns the ids of the runs that wrote a file; those of other stores are not known here."""
    from stages.tracking import EXPERIMENT

    experiment = client.get_experiment_by_name(EXPERIMENT)
    wanted = f"tags.`dvc.out.{path}` = '{md5}'"
    found = [] if experiment is None else client.search_runs([experiment.experiment_id], wanted)
    return ", ".join(run.info.run_id for run in found) or "in no run of this store (from the cache)"


def _made_by(client: Any, run_id: str) -> set[str]:
    """Returns the hashes of what a run wrote; none if there is no such run."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException:  # it is a hash, then
        return set()
    return set(_under(run.data.tags, "dvc.out.").values())


def _under(tags: dict[str, str], prefix: str) -> dict[str, str]:
    return {
        key.removeprefix(prefix): value
        for key, value in sorted(tags.items())
        if key.startswith(prefix)
    }


def _block(title: str, entries: dict[str, str]) -> list[str]:
    return ["", title, *(f"  {key}  {value}".rstrip() for key, value in entries.items())]


def _shown(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


if __name__ == "__main__":
    run_program("lineage", main, *sys.argv[1:])
