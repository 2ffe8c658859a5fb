"""What the papers and their authors state, as the parameters files for their scale have it."""

from pathlib import Path
from typing import Any

import pytest

from stages.experiment import resolve

FOLDER = Path(__file__).parents[2] / "experiments"
RATES = {"optimiser.encoder_lr": 5e-6, "optimiser.decoder_lr": 5e-5}  # V2 7.1
VIEWS = {"short_side_px": 518, "crops_px": [[518, 518]]}  # V2 7.1
BOTH_TERMS = {"losses.gradient_weight": 2.0, "losses.num_gradient_scales": 4}  # V2 7.1, B.7
TEACHER = VIEWS | RATES | BOTH_TERMS | {"encoder": "vitg", "augment.cutmix_probability": 0.0}
STUDENT = (
    VIEWS
    | RATES
    | BOTH_TERMS
    | {
        "losses.alignment": "median",
        "losses.trim_fraction": 0.1,  # V2 5.2
        "losses.feature_tolerance": 0.85,  # V1
        "augment.cutmix_probability": 0.5,  # V1
        "mixture": None,  # V2 7.1: no balancing
    }
)
METRIC = (  # the authors' metric code
    VIEWS
    | RATES
    | {
        "optimiser.schedule": "poly",
        "optimiser.weight_decay": 0.01,
        "variance_focus": 0.5,
        "max_depth_m.indoor": 20.0,
        "max_depth_m.outdoor": 80.0,
    }
)
TABLE_4 = {  # V1, and V1's copy of ZoeDepth's code
    "optimiser.encoder_lr": 3.22e-6,
    "optimiser.decoder_lr": 1.61e-4,
    "variance_focus": 0.85,
}
V1_STUDENT = {
    "losses.gradient_weight": 0.0,
    "losses.trim_fraction": 0.0,
    "losses.feature_weight": 1.0,
    "losses.feature_tolerance": 0.85,
    "losses.synthetic_weight": 2.0,
    "mixture": {"pseudo": 2, "synthetic": 1},
    "perturb": "pseudo",
    "align_features": "pseudo",
    "augment.jitter_probability": 0.8,
    "augment.blur_probability": 0.5,
    "augment.cutmix_probability": 0.5,
}


def value_at(section: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        section = section[key]
    return section


@pytest.mark.parametrize(
    ("name", "stage", "steps", "batch", "stated"),
    [
        ("paper", "train_teacher", 160_000, 64, TEACHER),
        ("paper", "train_student", 480_000, 192, STUDENT),
        ("paper", "finetune_metric", 20_000 * 120 // 32, 32, METRIC),
        ("metric_indoor", "finetune_metric", 59_543 * 120 // 32, 32, METRIC),
        ("one_gpu", "train_teacher", 40_000, 64, TEACHER),
        ("one_gpu", "train_student", 100_000, 64, STUDENT),
        ("v1", "train_teacher", 1_500_000 * 20 // 192, 192, {"losses.gradient_weight": 0.0}),
        ("v1", "train_student", 62_000_000 * 3 // 2 // 192, 192, V1_STUDENT),
        ("nyu", "finetune_metric", 24_231 * 5 // 16, 16, TABLE_4 | {"crops_px": [[392, 518]]}),
        ("kitti", "finetune_metric", 23_158 * 5 // 16, 16, TABLE_4),
    ],
)
def test_values_are_those_of_the_papers(name, stage, steps, batch, stated):
    section = resolve(FOLDER / f"{name}.yaml")[stage]
    assert section["batch_size"] * section["accumulate"] == batch
    assert section["num_steps"] == pytest.approx(steps, rel=0.03)  # whole epochs, rounded
    assert {path: value_at(section, path) for path in stated} == stated


@pytest.mark.parametrize("name", ["nyu", "kitti"])
def test_the_encoders_rate_is_a_fiftieth_of_the_decoders(name):
    optimiser = resolve(FOLDER / f"{name}.yaml")["finetune_metric"]["optimiser"]
    assert optimiser["decoder_lr"] == pytest.approx(50 * optimiser["encoder_lr"])


def test_kittis_views_are_the_multiples_of_the_patch_nearest_to_the_papers():
    ((height, width),) = resolve(FOLDER / "kitti.yaml")["finetune_metric"]["crops_px"]
    assert (height, width) == (378, 770)
    assert abs(height - 384) < 7
    assert abs(width - 768) < 7


def test_the_students_of_the_paper_are_of_all_sizes_on_all_its_sources():
    document = resolve(FOLDER / "paper.yaml")
    assert document["matrix"]["encoders"] == ["vits", "vitb", "vitl", "vitg"]
    assert document["matrix"]["labels"] == ["pseudo"]
    roles = [set(source["roles"]) for source in document["sources"].values()]
    assert sum("labelled" in role for role in roles) == 5
    assert sum("unlabelled" in role for role in roles) == 8
