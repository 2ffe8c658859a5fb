"""Says in plain words what the results show, whichever way they fall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.report_results import BASELINES, MEASURES, Measure, Model
from stages.report_tables import beaten_by, difference


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement of the summary."""

    tone: str
    """`pass`, `warn`, `fail` or `plain`."""
    headline: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the top of the page."""

    says: str
    value: str
    note: str
    tone: str
    link: str


_COMPARED = tuple(
    measure
    for measure in MEASURES
    if measure.key in ("pair_accuracy", "delta1", "abs_rel_inverse", "boundary_f1")
)


def summarise(
    models: Sequence[Model], sources: Sequence[str], *, unseen: Sequence[str]
) -> list[Finding]:
    """Returns the statements of the summary that follow from the evaluations.

    Args:
        models: Models and baselines of relative depth.
        sources: Evaluation sources with depth.
        unseen: Those of them on whose kind nothing was trained with true depth.
    """
    findings = [
        _pseudo_against_synthetic(student, control, unseen)
        for student in models
        if student.tone == "pseudo"
        for control in models
        if control.name == student.name.replace("-pseudo", "-synthetic")
    ]
    trained = [model for model in models if model.tone != "trivial"]
    if any(model.tone == "trivial" for model in models) and trained:
        findings.append(_against_trivial(trained, models, sources))
    findings += _annotated_pairs(trained)
    return findings


def _pseudo_against_synthetic(student: Model, control: Model, unseen: Sequence[str]) -> Finding:
    better = worse = 0
    details = []
    for source in unseen:
        for measure in _COMPARED:
            found = difference(student, control, source, measure.key)
            if found is None:
                continue
            gain = [value if measure.higher_is_better else -value for value in found]
            verdict = "no clear difference"
            if min(gain[1:]) > 0:
                better, verdict = better + 1, "better"
            elif max(gain[1:]) < 0:
                worse, verdict = worse + 1, "worse"
            details.append(
                f"{source}, {measure.title}: {_text(student, source, measure)} against "
                f"{_text(control, source, measure)} ({_signed(found, measure)}): {verdict}."
            )
    who = f"{student.label} against {control.label}"
    if not details:
        return Finding("plain", f"{who}: nothing to compare them on yet.")
    if better > len(details) / 2 and not worse:
        headline, tone = "Pseudo-labels beat synthetic images on unseen images", "pass"
    elif worse > len(details) / 2 and not better:
        headline, tone = "Pseudo-labels are worse than synthetic images on unseen images", "fail"
    elif better and worse:
        headline, tone = (
            "Pseudo-labels against synthetic images: better in some, worse in others",
            "warn",
        )
    else:
        headline, tone = "Pseudo-labels make no clear difference to synthetic images", "warn"
    count = f"{better} better, {worse} worse, {len(details) - better - worse} unclear"
    basis = "95 % intervals over images, one training seed"
    return Finding(tone, f"{headline} ({count}; {basis}).", tuple(details))


def _against_trivial(
    trained: Sequence[Model], models: Sequence[Model], sources: Sequence[str]
) -> Finding:
    lost = []
    num_compared = 0
    for source in sources:
        for measure in _COMPARED:
            for model in trained:
                if model.value(source, measure.key) is None:
                    continue
                num_compared += 1
                rival = beaten_by(model, models, source, measure)
                if rival:
                    other = next(entry for entry in models if entry.label == rival)
                    lost.append(
                        f"{source}, {measure.title}: {rival} ({_text(other, source, measure)}) "
                        f"is no worse than {model.label} ({_text(model, source, measure)})."
                    )
    if not lost:
        names = ", ".join(name.replace("_", " ") for name in BASELINES)
        return Finding("pass", f"Every model beats every trivial baseline ({names}) everywhere.")
    headline = (
        f"A trivial baseline is as good as a model in {len(lost)} of {num_compared} comparisons."
    )
    return Finding("warn", headline, tuple(lost))


def _annotated_pairs(trained: Sequence[Model]) -> list[Finding]:
    scored = [
        (model.metrics["da2k"]["balanced"], model) for model in trained if "da2k" in model.metrics
    ]
    if not scored:
        return []
    best, model = max(scored, key=lambda entry: entry[0])
    details = tuple(f"{entry.label}: {_balanced(entry)}." for _, entry in scored)
    return [
        Finding(
            "plain",
            f"Of the annotated pairs {model.label} orders the most: {100 * best:.1f} % "
            f"(balanced; chance is 50; 95 % intervals over images).",
            details,
        )
    ]


def gate_findings(verdicts: Sequence[dict[str, Any]]) -> list[Finding]:
    """Returns one statement about all gates.

    Args:
        verdicts: Verdict files.
    """
    failed = [verdict for verdict in verdicts if not verdict["success"]]
    num_warnings = sum(verdict["num_warnings"] for verdict in verdicts)
    num_checks = sum(len(verdict["expectations"]) for verdict in verdicts)
    if not verdicts:
        return []
    warned = f", {num_warnings} with a warning" if num_warnings else ""
    if not failed:
        tone = "warn" if num_warnings else "pass"
        return [Finding(tone, f"All gates passed: {num_checks} expectations{warned}.")]
    names = ", ".join(" ".join(filter(None, (v["gate"], v["verdict"]))) for v in failed)
    details = tuple(
        f"{found['says']} Limit {found['limit']}, seen {found['seen']}."
        for verdict in failed
        for found in verdict["expectations"]
        if not found["success"] and found["severity"] == "critical"
    )
    return [Finding("fail", f"Not passed: {names}.", details)]


def tiles(
    models: Sequence[Model],
    findings: Sequence[Finding],
    verdicts: Sequence[dict[str, Any]],
    *,
    source: str | None,
) -> list[Tile]:
    """Returns the few numbers that stand largest.

    Args:
        models: Models and baselines of relative depth.
        findings: From `summarise`.
        verdicts: Verdict files.
        source: Evaluation source that matters most; None: there is none.
    """
    found = []
    if verdicts:
        num_failed = sum(not verdict["success"] for verdict in verdicts)
        num_warnings = sum(verdict["num_warnings"] for verdict in verdicts)
        noted = f", {_counted(num_warnings, 'warning')}" if num_warnings else ""
        tone = "fail" if num_failed else "warn" if num_warnings else "pass"
        word = f"{num_failed} failed" if num_failed else "passed"
        found.append(
            Tile("gates", word, _counted(len(verdicts), "verdict") + noted, tone, "#gates")
        )
    measure = next(entry for entry in MEASURES if entry.key == "pair_accuracy")
    students = [model for model in models if model.tone == "pseudo"]
    for model in students if source is not None else ():
        assert source is not None
        value, ends = model.value(source, measure.key), model.interval(source, measure.key)
        if value is None:
            continue
        note = f"{model.label}, 95 % "
        note += (
            f"{measure.text(ends[0])} to {measure.text(ends[1])}" if ends else "interval unknown"
        )
        says = f"pairs in order on {source}"
        found.append(Tile(says, f"{measure.text(value)} %", note, "plain", "#results"))
        break
    for finding in findings[:1] if students else ():
        word = {"pass": "better", "fail": "worse"}.get(finding.tone, "no clear difference")
        note = "on images of a kind without labels in training"
        found.append(Tile("pseudo-labels against control", word, note, finding.tone, "#findings"))
    scored = [m for m in models if m.tone != "trivial" and "da2k" in m.metrics]
    if scored:
        best = max(scored, key=lambda model: model.metrics["da2k"]["balanced"])
        text, _, interval = _balanced(best).removesuffix(")").partition(" (")
        note = f"{best.label}, 95 % {interval}; chance is 50"
        found.append(Tile("annotated pairs, balanced", text, note, "plain", "#pairs"))
    return found


def _balanced(model: Model) -> str:
    """Returns a model's balanced accuracy on annotated pairs, with its interval."""
    low, high = model.metrics["intervals"]["da2k"]["balanced"]
    value = model.metrics["da2k"]["balanced"]
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _text(model: Model, source: str, measure: Measure) -> str:
    value = model.value(source, measure.key)
    return "none" if value is None else measure.text(value)


def _signed(found: tuple[float, float, float], measure: Measure) -> str:
    factor, digits = (100, 1) if measure.percent else (1, 3)
    mean, low, high = (
        f"{factor * value:+.{digits}f}".replace("-", "\N{MINUS SIGN}") for value in found
    )
    return f"difference {mean}, interval {low} to {high}"
