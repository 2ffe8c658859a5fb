"""Validates a whole parameters file: every section by its class, and the names in `matrix`.

`python -m stages.sections` does it for params.yaml.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from stages.matrix import MatrixParams
from stages.params import PARAMS_FILE, Params, read_document, validate
from stages.sources import SourceParams


def problems(path: Path = PARAMS_FILE) -> list[str]:
    """Returns one line for each thing in a parameters file that does not fit.

    Args:
        path: Parameters file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no YAML.
    """
    return document_problems(read_document(path), where=str(path))


def document_problems(document: Mapping[str, Any], *, where: str) -> list[str]:
    """Returns one line for each thing in a whole parameters file that does not fit.

    Sections must be known and fit their classes, encoders must exist, and models that are evaluated
    must be among those that dvc.yaml makes.

    Args:
        document: A whole parameters file.
        where: Its name, for the lines.
    """
    models = section_models()
    found = []
    for name, model in models.items():
        content: Any = document
        for key in name.split("."):
            content = content.get(key) if isinstance(content, Mapping) else None
        if content is None:
            found.append(f"{where}: expected a section {name!r}, got none")
            continue
        found += _problems(content, model, where=f"{where}: {name}")
    sources = document.get("sources")
    if not isinstance(sources, Mapping) or not sources:
        found.append(f"{where}: expected at least one source under 'sources', got {sources!r}")
        sources = {}
    for name, content in sources.items():
        found += _problems(content, SourceParams, where=f"{where}: sources.{name}")
    known = {name.partition(".")[0] for name in models} | {"sources"}
    unknown = sorted(set(document) - known)
    return found + [f"{where}: expected one of {sorted(known)}, got {name!r}" for name in unknown]


def main(path: Path = PARAMS_FILE) -> None:
    """Ends with one line a problem and exit status 1, if there is any.

    Raises:
        SystemExit: If the file does not fit.
    """
    try:
        found = problems(path)
    except (FileNotFoundError, ValueError) as error:
        found = [str(error)]
    if found:
        raise SystemExit("\n".join(found))


def _problems(content: Any, model: type[Params], *, where: str) -> list[str]:
    try:
        params = validate(content, model, where=where)
    except ValueError as error:
        return [str(error)]
    return _matrix_problems(params, where=where) if isinstance(params, MatrixParams) else []


def _matrix_problems(matrix: MatrixParams, *, where: str) -> list[str]:
    from dav2.models.encoder import EncoderName, encoder_config

    encoders = get_args(EncoderName)
    warmed = [name for name in encoders if encoder_config(name).family == "dinov2"]
    found = [
        f"{where}.{key}: expected some of {', '.join(known)}, got {', '.join(unknown)}"
        for key, names, known in (
            ("encoders", matrix.encoders, encoders),
            ("both", matrix.both, encoders),
            ("warm", matrix.warm, warmed),
            ("live", matrix.live, encoders),
            ("models", matrix.models, matrix.made()),
        )
        if (unknown := [name for name in names if name not in known])
    ]
    if matrix.domains and "pseudo" not in matrix.labels:
        found.append(
            f"{where}.domains: expected none, since metric models start from students of 'pseudo' "
            f"and labels are without it, got {', '.join(matrix.domains)}"
        )
    return found


def section_models() -> dict[str, type[Params]]:
    """Returns the class of each section, by its name; `sources` has `load_sources` instead."""
    from stages.evaluation_params import EvaluateParams
    from stages.finetune_metric import FinetuneMetricParams
    from stages.gate_data_params import GateDataParams
    from stages.gate_labels import GateLabelsParams
    from stages.gate_release import GateReleaseParams
    from stages.gate_teacher import GateTeacherParams
    from stages.ingest import IngestParams
    from stages.labelling_job import PseudoLabelParams
    from stages.render import DriveParams, StudioParams, WildEvalParams, WildParams
    from stages.report import ReportParams
    from stages.train_student import TrainStudentParams
    from stages.train_teacher import TrainTeacherParams
    from stages.warm_encoder import WarmEncoderParams

    return {
        "render.studio": StudioParams,
        "render.drive": DriveParams,
        "render.wild": WildParams,
        "render.wild_eval": WildEvalParams,
        "ingest": IngestParams,
        "matrix": MatrixParams,
        "gate_data": GateDataParams,
        "warm_encoder": WarmEncoderParams,
        "train_teacher": TrainTeacherParams,
        "gate_teacher": GateTeacherParams,
        "pseudo_label": PseudoLabelParams,
        "gate_labels": GateLabelsParams,
        "train_student": TrainStudentParams,
        "finetune_metric": FinetuneMetricParams,
        "evaluate": EvaluateParams,
        "gate_release": GateReleaseParams,
        "report": ReportParams,
    }


if __name__ == "__main__":
    main()
