"""Builds one self-contained page that shows everything the pipeline made."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from dav2.data.files import written_whole
from dav2.data.manifest import read_manifest
from stages.matrix import MatrixParams
from stages.params import Params, load, read_document
from stages.program import run
from stages.report_beside import write_beside
from stages.report_cards import dataset_card
from stages.report_charts import graph_chart
from stages.report_comparisons import comparisons, worst_cases
from stages.report_evidence import (
    PictureOptions,
    label_examples,
    offender_examples,
    source_examples,
    worst_label_examples,
)
from stages.report_files import write_markdown, write_plot_tables
from stages.report_graph import read_graph
from stages.report_labels import label_quality
from stages.report_pictures import colours, error_colours
from stages.report_results import Model, is_relative, read_models
from stages.report_sections import (
    label_facts,
    model_facts,
    provenance,
    read_verdicts,
    role_rows,
    source_rows,
    training_charts,
)
from stages.report_summary import gate_findings, summarise, tiles
from stages.report_tables import (
    cost_chart,
    dense_sources,
    metric_sections,
    result_sections,
    scenario_section,
)
from stages.report_template import render
from stages.sources import SourceParams, load_sources, locations
from stages.tracking import recorded
from stages.withdrawn import remove_withdrawn

FAILED_GATES = Path(".work/gates")

_NUM_WORST = 4  # labels shown by each measure

logger = logging.getLogger(__name__)


class ReportParams(Params):
    """What the page shows."""

    examples_per_source: NonNegativeInt
    """Samples of each source."""
    label_examples: NonNegativeInt
    """Photographs with their pseudo-labels, over all sources."""
    picture_side_px: PositiveInt
    """Largest longer side of a picture."""
    jpeg_quality: Annotated[int, Field(ge=1, le=95)]


def main(output: Path, data: Path, reports: Path, *, partial: bool = False) -> None:
    """Writes the page, `report.md` and the folder `plots` beside it; same inputs, same bytes.

    Times, costs and champions are not in it: it shows those of `.work/report_facts.html` where
    that exists.

    Args:
        output: HTML file to write.
        data: Folder with `ingest`, `gated` and `training`.
        reports: Folder with `gates`, `training` and `evaluation`.
        partial: Build it from what exists, failed gates included, instead of refusing.

    Raises:
        SystemExit: With a line, if parameters do not fit, or something is missing and the report
            is not to be partial.
    """
    try:
        with recorded("report"):
            matrix = load("matrix", MatrixParams)
            if not partial:
                remove_withdrawn(reports / "training", matrix.models)
            evaluated, missing = read_models(reports / "evaluation", matrix)
            content, missing = gather(data, reports, (evaluated, missing), partial=partial)
            if missing and not partial:
                raise FileNotFoundError(
                    f"expected all results, got no {missing[0]}; --partial shows what there is"
                )
            page = render("report.html.jinja", content)
            with written_whole(output) as path:
                path.write_text(page, encoding="utf-8")
            write_markdown(content, output.with_name("report.md"))
            dense = [result["source"] for result in content["results"]]
            write_plot_tables(evaluated, dense, reports / "training", output.with_name("plots"))
            write_beside(evaluated, reports / "evaluation", source=next(iter(dense), None))
    except (ValueError, OSError) as error:
        raise SystemExit(f"report: {error}") from None
    logger.info("%s: %.1f MB", output, len(page.encode()) / 1e6)


def gather(
    data: Path, reports: Path, read: tuple[list[Model], list[str]], *, partial: bool
) -> tuple[dict[str, Any], list[str]]:
    """Returns what the page shows, and names of what it cannot show yet.

    Args:
        data: As `main`.
        reports: As `main`.
        read: From `read_models`.
        partial: Take failed verdicts from `.work/gates` too.

    Raises:
        ValueError: If parameters or files do not fit.
    """
    params = load("report", ReportParams)
    matrix = load("matrix", MatrixParams)
    sources = load_sources()
    options = PictureOptions(params.picture_side_px, params.jpeg_quality)
    evaluated, missing = read
    verdicts = read_verdicts(reports / "gates", FAILED_GATES if partial else None)
    charts = training_charts(reports / "training", matrix.models)
    listed = source_rows(data / "ingest", sources)
    labels = label_facts(data / "training" / "pseudo")
    gated = data / "gated" / "evaluation.parquet"
    missing = missing + _missing(matrix, charts, listed)
    missing += [] if labels else ["pseudo-labels"]
    missing += [] if gated.is_file() else ["gated evaluation samples"]
    content = {
        "missing": missing,
        "graph": graph_chart(
            "Stages of the pipeline", read_graph(read_document()), states=_states(verdicts)
        ),
        "sources": [_with_examples(row, sources, params, options) for row in listed],
        "offenders": offender_examples(verdicts, data / "ingest", locations(), options=options),
        "roles": role_rows(data),
        "labels": labels,
        **_label_examples(data / "training" / "pseudo", labels, params, options),
        "trainings": charts,
        "verdicts": verdicts,
        "models": model_facts(evaluated),
        "provenance": provenance(data, sources),
        "scale": _gradient(colours()),
        "error_scale": _gradient(error_colours()),
        **_judged(evaluated, verdicts, sources),
        **_pictured(evaluated, matrix, reports / "evaluation", gated, options=options),
    }
    return content, missing


def _judged(
    evaluated: Sequence[Model],
    verdicts: Sequence[dict[str, Any]],
    sources: Mapping[str, SourceParams],
) -> dict[str, Any]:
    """Returns the summary, and the tables and charts that need no sample."""
    relative = [model for model in evaluated if is_relative(model)]
    dense = dense_sources(relative)
    unseen = [name for name in dense if name in _unseen(sources)]
    findings = summarise(relative, dense, unseen=unseen)
    first = next(iter([*unseen, *dense]), None)
    sizes = {
        model.name: float(model.metrics["model"]["parameters"])
        for model in evaluated
        if "model" in model.metrics
    }
    return {
        "findings": [*findings, *gate_findings(verdicts)],
        "tiles": tiles(relative, findings, verdicts, source=first),
        "sizes": cost_chart(relative, first, sizes, title="parameters") if first else "",
        "scenarios": scenario_section(evaluated),
        "metric": metric_sections(evaluated),
    }


def _pictured(
    evaluated: Sequence[Model],
    matrix: MatrixParams,
    evaluation: Path,
    gated: Path,
    *,
    options: PictureOptions,
) -> dict[str, Any]:
    """Returns what needs the samples of the evaluation."""
    if not evaluated or not gated.is_file():
        return {"results": [], "comparisons": [], "worst": []}
    unseen = _unseen(load_sources())
    shown = _shown(evaluated, matrix)
    places = locations()
    asked: dict[str, Any] = {"first": unseen, "options": options}
    return {
        "results": result_sections(evaluated, read_manifest(gated), unseen),
        "comparisons": comparisons(evaluation, gated, shown, places, **asked),
        "worst": worst_cases(evaluation, gated, shown, places, **asked),
    }


def _missing(
    matrix: MatrixParams, charts: Sequence[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]]
) -> list[str]:
    trained = {chart["name"] for chart in charts}
    untrained = [f"training of {name}" for name in matrix.models if name not in trained]
    return untrained + [f"ingest of {row['name']}" for row in listed if row["summary"] is None]


def _with_examples(
    row: Mapping[str, Any],
    sources: Mapping[str, SourceParams],
    params: ReportParams,
    options: PictureOptions,
) -> dict[str, Any]:
    examples, card = [], None
    if row["summary"] is not None:
        card = dataset_card(sources[row["name"]], row["manifest"])
    if row["summary"] is not None and params.examples_per_source:
        examples = source_examples(
            row["manifest"],
            locations(),
            num_examples=params.examples_per_source,
            options=options,
        )
    return {**row, "examples": examples, "card": card}


def _label_examples(
    folder: Path, facts: object, params: ReportParams, options: PictureOptions
) -> dict[str, list[Any]]:
    if facts is None or not params.label_examples:
        return {"label_examples": [], "worst_labels": [], "label_quality": []}
    num_worst = min(_NUM_WORST, params.label_examples)
    return {
        "label_examples": label_examples(
            folder, num_examples=params.label_examples, options=options
        ),
        "worst_labels": worst_label_examples(folder, num_examples=num_worst, options=options),
        "label_quality": label_quality(folder),
    }


def _shown(models: Sequence[Model], matrix: MatrixParams) -> list[Model]:
    """Returns what stands side by side: the teacher and the students of the last encoder."""
    encoder = matrix.encoders[-1]
    wanted = ("teacher", f"student-{encoder}-pseudo", f"student-{encoder}-synthetic")
    return [model for name in wanted for model in models if model.name == name]


def _unseen(sources: Mapping[str, SourceParams]) -> set[str]:
    """Returns the evaluation sources of which nothing was trained with true depth."""
    trained = ("labelled", "metric_indoor", "metric_outdoor")
    return {
        name
        for name, source in sources.items()
        if not any(role in source.roles for role in trained)
    }


def _states(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    states: dict[str, str] = {}
    for verdict in verdicts:
        state = "fail" if not verdict["success"] else "warn" if verdict["num_warnings"] else "pass"
        name = f"gate_{verdict['gate']}"
        states[name] = max(state, states.get(name, ""), key=("", "pass", "warn", "fail").index)
    return states


def _gradient(table: Sequence[tuple[int, int, int]]) -> str:
    """Returns colours, the first at the left, as steps of a CSS gradient."""
    steps = [table[round(place * (len(table) - 1) / 12)] for place in range(13)]
    return ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in steps)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    paths = [Path(argument) for argument in sys.argv[1:] if argument != "--partial"]
    run("report", main, *paths, partial="--partial" in sys.argv)
