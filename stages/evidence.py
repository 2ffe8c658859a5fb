"""What DVC knows of a finished model: data, parameters, gates and its evaluation, by their hashes.

Everything is read from dvc.lock and compared with the files, so that what is registered is what
was evaluated and judged, and nothing newer or older.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from ruamel.yaml import YAML

from stages.digests import LOCK, dvc_digest

TABLES = ("metrics.json", "per_image.parquet", "pairs.parquet")
"""Files of an evaluation that models are compared by."""

_CODE = re.compile(r"(dav2|stages)/")
_GATE = re.compile(r"reports/gates/(.+)\.json")
_DATA = "gate_data"  # its manifests hold the content hash of every sample: nothing above decides


@dataclass(frozen=True, slots=True)
class Evidence:
    """One evaluated and judged model."""

    model: str
    """Its name in params.yaml."""
    weights: Path
    weights_md5: str
    folder: Path
    """Of its evaluation."""
    manifest: Path
    """Of the images it was evaluated on."""
    evaluation: str
    """Hash of all that decides an evaluation but the model: two of one hash can be compared."""
    outputs: Mapping[str, str]
    """DVC's hash of the evaluation's tables and of the verdict on the release, by path."""
    metrics: Mapping[str, Any]
    release: Path
    """File of the release gate's verdict."""
    gates: Mapping[str, bool]
    """Whether each gate on the way let pass; `release` among them."""
    inputs: Mapping[str, str]
    """DVC's hash of every data set, model and verdict it was made from, by path."""
    params: Mapping[str, Any]
    """Sections of params.yaml that made it."""
    sources: tuple[str, ...]
    """Sources of data that it, or its teacher, was trained on."""

    def digest(self) -> str:
        """Returns the hash of how it was evaluated, of the tables and of the release's verdict."""
        return _md5_of([self.evaluation, self.outputs])


def gather(model: str, lock: Path = LOCK) -> Evidence:
    """Returns what is known of a model of params.yaml.

    Raises:
        FileNotFoundError: If there is no dvc.lock, or a file that it names is missing.
        ValueError: If the model was not evaluated and judged, or a file is not what dvc.lock says.
    """
    stages = _stages(lock)
    evaluated, judged = (
        _entry(stages, f"evaluate@{model}", lock),
        _entry(stages, "gate_release", lock),
    )
    deps, outs = _hashes(evaluated, "deps"), _hashes(evaluated, "outs")
    weights = _only(deps, ".safetensors")
    tables = {name: _only(outs, f"/{name}") for name in TABLES}
    release = _only(_hashes(judged, "outs"), ".json")
    for path, md5 in (
        (weights, deps[weights]),
        *((path, outs[path]) for path in tables.values()),
        (release, _hashes(judged, "outs")[release]),
        *((path, md5) for path, md5 in _hashes(judged, "deps").items() if not _CODE.match(path)),
    ):
        _check(Path(path), md5, lock)
    made = list(_makers(stages, weights))
    inputs = {
        path: md5
        for entry in [*made, evaluated]
        for path, md5 in _hashes(entry, "deps").items()
        if not _CODE.match(path)
    }
    manifest = _only(deps, ".parquet")
    return Evidence(
        model=model,
        weights=Path(weights),
        weights_md5=deps[weights],
        folder=Path(tables["metrics.json"]).parent,
        manifest=Path(manifest),
        evaluation=evaluation_fingerprint(evaluated, weights),
        outputs={path: outs[path] for path in tables.values()} | _hashes(judged, "outs"),
        metrics=json.loads(Path(tables["metrics.json"]).read_bytes()),
        release=Path(release),
        gates=_verdicts([*inputs, release]),
        inputs=inputs,
        params=_params([*made, evaluated]),
        sources=_sources([path for path in inputs if path != manifest]),
    )


def check_evaluation(model: str, expected: str, lock: Path = LOCK) -> Path:
    """Returns the evaluation manifest, once an evaluation here would be of the expected hash.

    Args:
        model: A model of params.yaml that was evaluated here.
        expected: As `Evidence.evaluation`.
        lock: DVC's lock file.

    Raises:
        FileNotFoundError: As `gather`.
        ValueError: If images, protocol or code here are others.
    """
    entry = _entry(_stages(lock), f"evaluate@{model}", lock)
    deps = _hashes(entry, "deps")
    weights = _only(deps, ".safetensors")
    for path, md5 in deps.items():
        if path != weights:
            _check(Path(path), md5, lock)
    found = evaluation_fingerprint(entry, weights)
    if found != expected:
        raise ValueError(
            f"{lock}: expected the evaluation of {model} that was registered ({expected}), "
            f"got {found} (register it again, or check out its commit)"
        )
    return Path(_only(deps, ".parquet"))


def evaluation_fingerprint(entry: Mapping[str, Any], weights: str) -> str:
    """Returns the hash of what an evaluation depends on, less the model: images, protocol, code.

    Args:
        entry: Of an `evaluate@` stage in dvc.lock.
        weights: Path of the model.
    """
    others = {path: md5 for path, md5 in _hashes(entry, "deps").items() if path != weights}
    return _md5_of([others, entry.get("params", {})])


def _stages(lock: Path) -> dict[str, Any]:
    if not lock.is_file():
        raise FileNotFoundError(f"{lock}: expected the lock of a finished `dvc repro`, got no file")
    return (YAML(typ="safe").load(lock) or {}).get("stages") or {}


def _entry(stages: Mapping[str, Any], name: str, lock: Path) -> Mapping[str, Any]:
    if name not in stages:
        known = [stage.partition("@")[2] for stage in stages if stage.startswith("evaluate@")]
        raise ValueError(
            f"{lock}: expected a finished stage {name}, got none (evaluated: {', '.join(known)})"
        )
    entry: Mapping[str, Any] = stages[name]
    return entry


def _hashes(entry: Mapping[str, Any], kind: str) -> dict[str, str]:
    return {str(item["path"]): str(item["md5"]) for item in entry.get(kind, [])}


def _only(paths: Mapping[str, str], ending: str) -> str:
    (path,) = [path for path in paths if path.endswith(ending)]
    return path


def _check(path: Path, md5: str, lock: Path) -> None:
    found = dvc_digest(path)
    if found != md5:
        raise ValueError(
            f"{path}: expected what {lock} says ({md5}), got {found} (`dvc repro` first)"
        )


def _makers(stages: Mapping[str, Any], path: str) -> Iterator[Mapping[str, Any]]:
    """Yields the stages that led to a file, itself first, back to the gated manifests."""
    waiting, seen = [path], set()
    while waiting:
        wanted = waiting.pop()
        for name, entry in stages.items():
            if name in seen or name == _DATA or not _gives(entry, wanted):
                continue
            seen.add(name)
            yield entry
            waiting += [dep for dep in _hashes(entry, "deps") if not _CODE.match(dep)]


def _gives(entry: Mapping[str, Any], wanted: str) -> bool:
    return any(
        wanted == out or wanted.startswith(f"{out}/") or out.startswith(f"{wanted}/")
        for out in _hashes(entry, "outs")
    )


def _verdicts(paths: list[str]) -> dict[str, bool]:
    found = {match[1]: match[0] for path in paths if (match := _GATE.fullmatch(path))}
    return {
        gate: bool(json.loads(Path(path).read_bytes())["success"]) for gate, path in found.items()
    }


def _params(entries: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        section: values
        for entry in entries
        for sections in entry.get("params", {}).values()
        for section, values in sections.items()
    }


def _sources(paths: list[str]) -> tuple[str, ...]:
    files = [path if path.endswith(".parquet") else f"{path}/manifest.parquet" for path in paths]
    found: set[str] = set()
    for file in map(Path, files):
        if file.is_file() and "source" in pq.read_schema(file).names:
            found |= set(pq.read_table(file, columns=["source"])["source"].to_pylist())
    return tuple(sorted(found))


def _md5_of(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
