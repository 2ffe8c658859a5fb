"""Gathers the sections of the report from the files of the stages; what is not there is named."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dav2.data.manifest import read_manifest
from stages.digests import locked_outputs
from stages.report_charts import Line, line_chart
from stages.report_results import Model
from stages.sources import ROLES, SourceParams


def read_verdicts(gates: Path, failed: Path | None) -> list[dict[str, Any]]:
    """Returns the verdicts in the order of the pipeline.

    Args:
        gates: Folder of verdict files.
        failed: Folder of the copies that gates leave, which hold failed verdicts too; they win.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for folder in filter(None, (gates, failed)):
        for path in sorted(folder.rglob("*.json")):
            verdict = json.loads(path.read_bytes())
            found[verdict["gate"], verdict["verdict"]] = verdict
    gates_order = ("data", "teacher", "labels", "release")
    verdicts_order = ("", *ROLES)
    return sorted(
        found.values(),
        key=lambda v: (gates_order.index(v["gate"]), verdicts_order.index(v["verdict"])),
    )


def source_rows(ingest: Path, sources: Mapping[str, SourceParams]) -> list[dict[str, Any]]:
    """Returns what was ingested of each source; `summary` is null where nothing was."""
    rows = []
    for name, source in sources.items():
        path = ingest / name / "summary.json"
        summary = json.loads(path.read_bytes()) if path.is_file() else None
        roles = [f"{role} ({', '.join(splits)})" for role, splits in source.roles.items()]
        rows.append(
            {
                "name": name,
                "reader": source.reader,
                "domain": source.domain,
                "roles": roles,
                "summary": summary,
                "manifest": ingest / name / "manifest.parquet",
            }
        )
    return rows


def role_rows(data: Path) -> list[dict[str, Any]]:
    """Returns how many samples passed the gate in each role, by source and split."""
    rows = []
    for role in ROLES:
        labelled = data / "training" / "synthetic" / "manifest.parquet"
        path = labelled if role == "labelled" else data / "gated" / f"{role}.parquet"
        if path.is_file():
            manifest = read_manifest(path)
            counts = Counter(zip(manifest["source"], manifest["split"], strict=True))
            parts = [
                f"{source} {split} {counts[source, split]}" for source, split in sorted(counts)
            ]
            rows.append({"role": role, "count": len(manifest), "parts": parts})
    return rows


def label_facts(folder: Path) -> dict[str, Any] | None:
    """Returns the summary of the pseudo-labels, if there are any."""
    path = folder / "summary.json"
    return json.loads(path.read_bytes()) if path.is_file() else None


def training_charts(training: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a chart of the loss and one of the validation for each training."""
    charts = []
    for name in names:
        folder = training / name
        if not (folder / "validation.json").is_file():
            continue
        with (folder / "curves.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        validation = json.loads((folder / "validation.json").read_bytes())
        losses = [(float(row["step"]), float(row["loss"])) for row in rows if row.get("loss")]
        measures = [
            Line(title, tone, [(entry["step"], entry[key]) for entry in validation["history"]])
            for key, title, tone in (
                ("pair_accuracy", "pairs in order", "pseudo"),
                ("delta1", "δ1", "teacher"),
                ("abs_rel_inverse", "AbsRel 1/z", "synthetic"),
            )
            if all(_is_number(entry.get(key)) for entry in validation["history"])
        ]
        charts.append(
            {
                "name": name,
                "loss": line_chart(f"Training loss of {name}", [Line("loss", "trivial", losses)]),
                "validation": line_chart(f"Validation of {name}", measures),
                "lines": measures,
                "final": validation["final"],
                "num_samples": validation.get("num_samples"),
            }
        )
    return charts


def model_facts(evaluated: Sequence[Model]) -> list[dict[str, Any]]:
    """Returns the number of parameters and the size of every evaluated model."""
    return [
        {
            "name": model.name,
            "parameters": f"{sizes['parameters'] / 1e6:.2f} M",
            "size": f"{sizes['bytes'] / 1e6:.1f} MB",
        }
        for model in evaluated
        if (sizes := model.metrics.get("model"))
    ]


def provenance(data: Path, sources: Iterable[str]) -> list[dict[str, str]]:
    """Returns DVC's hash of what the page rests on, from dvc.lock; empty without it.

    Only what the stage depends on stands here: the hash of anything else could be out of date.
    """
    locked = locked_outputs()
    wanted = [
        *((data / "ingest" / name).as_posix() for name in sources),
        (data / "training" / "synthetic").as_posix(),
        *((data / "gated" / f"{role}.parquet").as_posix() for role in ROLES[1:]),
        (data / "training" / "pseudo").as_posix(),
    ]
    return [
        {
            "path": path,
            "hash": str(locked[path]["md5"]),
            "size": f"{locked[path]['size'] / 1e6:.1f} MB",
        }
        for path in dict.fromkeys(wanted)
        if path in locked
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
