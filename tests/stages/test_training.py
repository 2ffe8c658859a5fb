"""What the training stages share."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from dav2.training.mixture import interleaved
from stages import finetune_metric, fingerprint, train_student
from stages.finetune_metric import FinetuneMetricParams
from stages.params import load
from stages.training import weighted_sources
from stages.training_work import prepare_work

HERE = Path("nothing")


@pytest.mark.parametrize(
    ("main", "num_paths", "words", "message"),
    [
        (train_student.main, 3, ("vit1", "pseudo"), "got 'vit1' and 'pseudo'"),
        (train_student.main, 3, ("vit64x4", "x"), "labels of pseudo, synthetic, both, got 'vit64"),
        (finetune_metric.main, 4, ("vit1", "indoor"), "got 'vit1' and 'indoor'"),
        (finetune_metric.main, 4, ("vit64x4", "x"), "a domain of indoor, outdoor, got 'vit64x4'"),
    ],
)
def test_an_unknown_encoder_or_second_word_is_refused(main, num_paths, words, message):
    with pytest.raises(ValueError, match=rf"expected an encoder of vit.* and .*{message}"):
        main(*words, *[HERE] * num_paths)


SAMPLES = SimpleNamespace(sample_ids=("drive-a", "drive-b-1", "studio-a", "studio-b", "studio-c"))


def test_sources_are_drawn_by_weight():
    parts = weighted_sources(SAMPLES, {"studio": 1, "drive": 3}, where="rows")
    drawn = Counter(
        SAMPLES.sample_ids[interleaved(position, parts, seed=0)].partition("-")[0]
        for position in range(80)
    )
    assert drawn == {"drive": 60, "studio": 20}


def test_without_weights_sources_are_one_set():
    assert weighted_sources(SAMPLES, {}, where="rows") == ()


@pytest.mark.parametrize("weights", [{"drive": 1}, {"drive": 1, "studio": 1, "wild": 1}])
def test_weights_of_other_sources_are_refused(weights):
    got = ", ".join(weights)
    with pytest.raises(ValueError, match=f"^rows: expected .* sources drive, studio, got {got}$"):
        weighted_sources(SAMPLES, weights, where="rows")


@pytest.fixture
def params(tmp_path, monkeypatch):
    shipped = load("finetune_metric", FinetuneMetricParams)
    monkeypatch.chdir(tmp_path)  # where folders of work are made
    return shipped


def mark(params):
    return prepare_work("train", params, "samples", given={}, code="code")[1]


@pytest.mark.parametrize("library", ["lightning", "numpy", "pillow", "timm", "torch"])
def test_another_version_of_a_library_that_decides_weights_starts_anew(
    params, monkeypatch, library
):
    version = fingerprint.version
    before = mark(params)
    monkeypatch.setattr(
        fingerprint, "version", lambda name: "0" if name == library else version(name)
    )
    assert mark(params) != before


def test_what_decides_no_weight_starts_nothing_anew(params):
    same = {
        "running": params.running.model_copy(update={"num_workers": 7}),
        "checkpoint_activations": not params.checkpoint_activations,
        "validation": params.validation.model_copy(update={"min_pair_accuracy": 0.1}),
        "parallel": params.parallel.model_copy(update={"launcher": "slurm"}),
    }
    assert mark(params.model_copy(update=same)) == mark(params)
    assert mark(params.model_copy(update={"num_threads": 9})) != mark(params)
