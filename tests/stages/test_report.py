import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from dav2.data.files import write_json
from dav2.data.images import encode_jpeg
from dav2.data.manifest import MANIFEST_SCHEMA, read_manifest, sample_name, write_manifest
from dav2.data.measurement import measure_sample
from dav2.data.open import ManifestReader, SourceLocation, open_dataset
from dav2.data.shards import INDEX_SCHEMA, ShardWriter, write_index
from dav2.labeling.codec import encode_label
from stages.evaluation import EvaluateParams, Evaluation, Predicted
from stages.report import main
from stages.report_results import MEASURES, read_models
from stages.report_summary import gate_findings, summarise
from stages.report_tables import beaten_by, difference

HEIGHT, WIDTH = 30, 40
ARGUMENTS = (Path("reports/index.html"), Path("data"), Path("reports"))
MODELS = ("teacher", "student-vits-pseudo", "student-vits-synthetic", "metric-vits-indoor")
BASELINES = ("constant", "ramp", "row_mean", "pixel_mean")
NOISE = {"teacher": 0.02, "student-vits-pseudo": 0.05, "student-vits-synthetic": 0.3}
SOURCES = {
    "rooms": ("diode", "indoor", {"labelled": ["train"], "evaluation": ["val"]}),
    "wild_eval": ("diode", "mixed", {"evaluation": ["val"]}),
    "pairs": ("da2k", "mixed", {"evaluation": ["test"]}),
    "wild": ("folder", "mixed", {"unlabelled": ["all"]}),
}
EVALUATE = {
    "device": "cpu",
    "dtype": "float32",
    "num_threads": 1,
    "batch_size": 4,
    "short_side_px": None,
    "relative": "default/relative",
    "metric": dict.fromkeys(("indoor", "outdoor"), "default/outdoor"),
    "protocols": {},
    "num_pairs": 20,
    "min_pair_ratio": 1.3,
    "baseline_samples": 10,
    "saved_predictions": 5,
    "consistency_samples": 0,
    "bootstrap_resamples": 50,
}
REPORT = {
    "examples_per_source": 2,
    "label_examples": 2,
    "picture_side_px": 40,
    "jpeg_quality": 80,
}
PIPELINE = {
    "stages": {
        "ingest": {"foreach": "${sources}", "do": {"cmd": "x", "outs": ["data/ingest/${key}"]}},
        "gate_data": {"cmd": "x", "deps": ["data/ingest"], "outs": ["data/gated"]},
    }
}


def scene(seed):
    """Returns an image and its depth in metres: a floor with a box that stands on it."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 1, HEIGHT)[:, None]
    depth = np.repeat(8.0 - 6.0 * rows, WIDTH, axis=1)
    left, top = rng.integers(2, 20), rng.integers(2, 12)
    depth[top : top + 12, left : left + 14] = rng.uniform(1.0, 2.0)
    grey = np.clip(30 + 200 / depth, 0, 255)
    image = np.repeat(grey[..., None], 3, axis=2) + rng.normal(0, 4, (HEIGHT, WIDTH, 3))
    return np.clip(image, 0, 255).astype(np.uint8), depth.astype(np.float32)


def write_raw():
    for source in ("rooms", "wild_eval"):
        for split in ("train", "val"):
            for number in range(5):
                image, depth = scene(number + (5 if source == "rooms" else 0))
                folder = Path("raw") / source / split / "indoors/scene_00001/scan_00001"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{number}.png")
                np.save(folder / f"{number}_depth.npy", depth)
                np.save(folder / f"{number}_depth_mask.npy", np.ones_like(depth))
    annotations = {}
    for scenario in ("indoor", "thin_structures"):
        name = f"images/{scenario}/x.jpg"
        path = Path("raw/pairs") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image, depth = scene(20)
        path.write_bytes(encode_jpeg(image, quality=90))
        near = np.unravel_index(depth.argmin(), depth.shape)
        points = [[int(near[0]), int(near[1])], [1, 1]]
        annotations[name] = [{"point1": points[0], "point2": points[1], "closer_point": "point1"}]
    Path("raw/pairs/annotations.json").write_text(json.dumps(annotations))
    Path("raw/wild").mkdir(parents=True)
    for number in range(3):
        Path(f"raw/wild/{number}.jpg").write_bytes(encode_jpeg(scene(number)[0], quality=90))


def ingest(source):
    reader_name, _, roles = SOURCES[source]
    root = Path("raw") / source
    reader = open_dataset(reader_name, root)
    listed = [(split, files) for splits in roles.values() for split in splits
              for files in reader.list_samples(split)]  # fmt: skip
    rows = [
        dict.fromkeys(MANIFEST_SCHEMA.names)
        | {"sample_id": sample_name(source, files.sample_id), "source": source,
           "dataset": reader_name, "split": split,
           "domain": SOURCES[source][1],
           "scene": files.scene, "image": files.image, "depth": files.depth,
           "extra": json.dumps(files.extra), "decoder": "0" * 16}
        | measure_sample(reader, files, where=str(root), max_pixels=10**6)
        for split, files in listed
    ]  # fmt: skip
    folder = Path("data/ingest") / source
    folder.mkdir(parents=True)
    write_manifest(pd.DataFrame(rows), folder / "manifest.parquet")
    splits = {split: {"good": 1, "quarantined": 0} for split, _ in listed}
    write_json(
        {"source": source, "dataset": reader_name, "good": len(rows), "quarantined": 1,
         "splits": splits, "reasons": {"expected a JPEG, got <b>text</b>": 1}},
        folder / "summary.json",
    )  # fmt: skip


def gate():
    manifests = {
        name: read_manifest(Path(f"data/ingest/{name}/manifest.parquet")) for name in SOURCES
    }
    for folder in ("data/gated", "data/training/synthetic"):
        Path(folder).mkdir(parents=True)
    for role in ("labelled", "unlabelled", "evaluation"):
        chosen = [
            rows[rows["split"].isin(SOURCES[name][2].get(role, []))]
            for name, rows in manifests.items()
        ]
        path = "data/training/synthetic/manifest" if role == "labelled" else f"data/gated/{role}"
        write_manifest(pd.concat([rows for rows in chosen if len(rows)]), Path(f"{path}.parquet"))


def label():
    folder = Path("data/training/pseudo")
    (folder / "shards").mkdir(parents=True)
    rows = []
    with ShardWriter(folder / "shards/wild-b.tar") as writer:
        for number in range(3):
            image, depth = scene(number)
            label = encode_label(1 / depth)
            name = f"wild-{number}"
            description = {"sample_id": name, "codec": "png16"}
            description |= {"min": label.minimum, "max": label.maximum}
            spans = writer.add(
                name,
                jpeg=encode_jpeg(image, quality=90),
                label=label,
                description=json.dumps(description).encode(),
            )
            rows.append(
                dict.fromkeys(INDEX_SCHEMA.names, 0.5)
                | {"sample_id": name, "source": "wild", "shard": "wild-b.tar", "degenerate": False,
                   "image_width": WIDTH, "image_height": HEIGHT, "width": WIDTH, "height": HEIGHT}
                | spans
            )  # fmt: skip
    write_index(pd.DataFrame(rows), folder / "manifest.parquet")
    write_json({"num_samples": 3, "num_labelled": 3, "num_degenerate": 0}, folder / "summary.json")


def evaluate(name):
    path = Path("data/gated/evaluation.parquet")
    manifest = read_manifest(path)
    places = {name: SourceLocation(entry[0], Path("raw") / name) for name, entry in SOURCES.items()}
    folder = Path("reports/evaluation") / name
    params = EvaluateParams.model_validate_json(json.dumps(EVALUATE))
    domains = {name: entry[1] for name, entry in SOURCES.items()}
    evaluation = Evaluation(manifest, folder, params=params, sources=places, domains=domains)
    reader = ManifestReader(manifest, places)
    rng = np.random.default_rng(len(name))
    for row in range(len(reader)):
        sample = reader.read(row)
        depth = scene(20)[1] if sample.depth is None else sample.depth
        if name == "trivial-constant":
            found = np.full(depth.shape, 0.5, np.float32)
        elif name.startswith("trivial"):
            found = np.repeat(np.linspace(0.1, 1, HEIGHT, dtype=np.float32)[:, None], WIDTH, axis=1)
        else:
            scale = rng.normal(1, NOISE.get(name, 0.1), depth.shape)
            found = (np.abs(scale) / depth).astype(np.float32)
        metres = (1 / found).astype(np.float32) if manifest["source"].iloc[row] == "rooms" else None
        evaluation.add(Predicted(row, sample, found, metres if "metric" in name else None))
    is_model = not name.startswith("trivial-")
    evaluation.finish({"parameters": 1_740_000, "bytes": 7_000_000} if is_model else None)


def write_trainings():
    for name in MODELS:
        folder = Path("reports/training") / name
        folder.mkdir(parents=True)
        (folder / "curves.csv").write_text("step,loss\n5,1.0\n10,0.5\n")
        final = {"step": 10, "delta1": 0.5, "abs_rel_inverse": 0.3, "pair_accuracy": 0.8}
        write_json({"final": final, "history": [final]}, folder / "validation.json")


def verdict(gate, name="", *, success=True):
    finding = {
        "says": "Images are large.",
        "table": "images",
        "limit": "at least 84",
        "seen": "3",
        "severity": "critical",
        "success": success,
        "offending": [{"sample_id": "x-1"}],
    }
    return {
        "gate": gate,
        "verdict": name,
        "success": success,
        "num_warnings": 0,
        "expectations": [finding],
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project in which every stage has run."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        sources = {
            name: {
                "reader": reader,
                "root": f"raw/{name}",
                "watch": f"raw/{name}",
                "domain": domain,
                "roles": roles,
            }
            for name, (reader, domain, roles) in SOURCES.items()
        }
        matrix = {
            "encoders": ["vits"],
            "labels": ["pseudo", "synthetic"],
            "both": [],
            "warm": [],
            "live": [],
            "domains": ["indoor"],
            "models": list(MODELS),
        }
        with Path("params.yaml").open("w") as stream:
            YAML(typ="safe").dump({"sources": sources, "matrix": matrix, "report": REPORT}, stream)
        with Path("dvc.yaml").open("w") as stream:
            YAML(typ="safe").dump(PIPELINE, stream)
        write_raw()
        for source in SOURCES:
            ingest(source)
        gate()
        label()
        write_trainings()
        for name in (*MODELS, *(f"trivial-{baseline}" for baseline in BASELINES)):
            evaluate(name)
        write_json(verdict("data", "evaluation"), Path("reports/gates/data/evaluation.json"))
        write_json(verdict("teacher"), Path("reports/gates/teacher.json"))
    return root


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """The same, to spoil; raw data and results are shared by links."""
    import shutil

    shutil.copytree(finished, tmp_path / "p", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


def page(**options):
    main(*ARGUMENTS, **options)
    return ARGUMENTS[0].read_text(encoding="utf-8")


def test_the_page_shows_every_part(project):
    text = page()
    headings = ["In short", "Results", "Side by side", "Which point is closer", "Depth in metres"]
    assert "of the 5 samples kept, of 5" in text
    for heading in [*headings, "Gates", "Data", "Training", "Pipeline", "Models"]:
        assert f"<h2>{heading}</h2>" in text
    for name in (
        "teacher",
        "student, pseudo-labels",
        "student, synthetic",
        "pixel mean",
        "thin structures",
    ):
        assert name in text
    assert "This report is partial" not in text


def test_the_worst_labels_are_shown_with_what_was_measured(project):
    path = Path("data/training/pseudo/manifest.parquet")
    index = pd.read_parquet(path)
    index[["flip_inconsistency", "scale_inconsistency"]] = np.nan
    index["zero_fraction"] = [0.0, 0.25, 0.125]
    index["ramp_correlation"] = [0.1, -0.2, 0.375]
    write_index(index, path)
    shown = page().split("The worst by ")[1:]
    assert [text.partition(",")[0] for text in shown] == ["zero fraction", "ramp correlation"]
    captions = [re.findall(r"<figcaption>([\d.]+)</figcaption>", text) for text in shown]
    assert captions[0] == ["0.250", "0.125"]
    assert captions[1][:2] == ["0.375", "0.100"]
    assert shown[0].index("wild-1") < shown[0].index("wild-2")


def test_the_page_fetches_nothing_and_names_no_place(project):
    text = page()
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', text) + re.findall(
        r"url\(([^)]*)\)", text
    )
    outside = {a for a in addresses if not a.startswith(("#", "data:"))}
    assert outside == {"../.work/run_facts.js"}
    assert "http" not in text.replace("http-equiv", "")
    assert str(project) not in text


def test_two_pages_are_the_same_bytes(project):
    page()
    first = ARGUMENTS[0].read_bytes()
    page()
    assert ARGUMENTS[0].read_bytes() == first


def test_texts_from_data_are_escaped(project):
    text = page()
    assert "<b>text</b>" not in text
    assert "&lt;b&gt;text&lt;/b&gt;" in text


def test_a_missing_result_is_refused_in_a_line_and_named_in_a_partial_page(project):
    import shutil

    shutil.rmtree("reports/evaluation/teacher")
    with pytest.raises(
        SystemExit, match="report: expected all results, got no evaluation of teacher"
    ):
        main(*ARGUMENTS)
    assert not ARGUMENTS[0].exists()
    text = page(partial=True)
    assert "This report is partial" in text
    assert "evaluation of teacher" in text


def test_a_partial_page_shows_a_gate_that_failed(project):
    import shutil

    for folder in ("reports", "data/gated", "data/training"):
        shutil.rmtree(folder)
    write_json(verdict("data", "labelled", success=False), Path(".work/gates/data/labelled.json"))
    text = page(partial=True)
    assert "Not passed: data labelled." in text
    assert "not passed</span>" in text
    assert 'class="stage fail"' in text
    assert "<code>x-1</code>" in text


def test_samples_that_a_failed_gate_names_are_shown(project):
    offending = [{"sample_id": "wild-0_jpg", "value": 0.25}, {"sample_id": "gone", "value": 1.0}]
    failed = verdict("data", "unlabelled", success=False)
    failed["expectations"][0] |= {"offending": offending, "success": False}
    write_json(failed, Path(".work/gates/data/unlabelled.json"))

    text = page(partial=True)

    gates_part = text.split('<section id="gates">')[1].split("</section>")[0]
    assert gates_part.count("<img") == 1
    assert 'title="wild-0_jpg"' in gates_part
    assert "0.25" in gates_part


def test_a_failure_of_an_earlier_run_is_not_in_the_page_of_a_later_one(project):
    write_json(verdict("data", "labelled", success=False), Path(".work/gates/data/labelled.json"))
    assert "Not passed" not in page()


def test_hashes_come_from_the_lock_for_what_the_stage_depends_on_alone(project):
    outs = [
        {"path": path, "md5": digit * 32, "size": 2_000_000}
        for path, digit in (
            ("data/training/pseudo", "a"),
            ("raw/rooms", "b"),
            ("models/teacher.safetensors", "c"),
        )
    ]
    lock = {"stages": {"label": {"outs": outs}}}
    with Path("dvc.lock").open("w") as stream:
        YAML(typ="safe").dump(lock, stream)
    text = page()
    assert "a" * 32 in text
    assert "b" * 32 not in text
    assert "c" * 32 not in text
    assert "2.0 MB" in text


def test_the_summary_says_who_wins(project):
    models, missing = read_models(Path("reports/evaluation"), matrix())
    assert missing == []
    relative = [model for model in models if model.tone != "metric"]
    findings = summarise(relative, ["rooms", "wild_eval"], unseen=["wild_eval"])
    assert findings[0].tone == "pass"
    assert findings[0].headline.startswith("Pseudo-labels beat synthetic images on unseen images (")
    assert findings[0].headline.endswith("95 % intervals over images, one training seed).")
    assert all(text.startswith("wild_eval") for text in findings[0].details)


@pytest.mark.parametrize(
    ("verdicts", "tone", "words"),
    [
        ("+++.", "pass", "beat"),
        ("++..", "warn", "no clear difference"),
        ("+...", "warn", "no clear difference"),
        ("+++-", "warn", "better in some, worse in others"),
        ("-...", "warn", "no clear difference"),
        ("---.", "fail", "are worse"),
    ],
)
def test_a_student_beats_the_control_only_in_most_measures(
    project, monkeypatch, verdicts, tone, words
):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    by_name = {model.name: model for model in models}
    pair = [by_name["student-vits-pseudo"], by_name["student-vits-synthetic"]]
    keys = ("pair_accuracy", "delta1", "abs_rel_inverse", "boundary_f1")

    def difference(one, other, source, key):
        sign = {"+": 1, "-": -1, ".": 0}[verdicts[keys.index(key)]]
        gain = -sign if key == "abs_rel_inverse" else sign
        return (gain, gain - 0.5, gain + 0.5)

    monkeypatch.setattr("stages.report_summary.difference", difference)
    finding = summarise(pair, ["wild_eval"], unseen=["wild_eval"])[0]
    assert finding.tone == tone
    assert words in finding.headline
    assert "one training seed" in finding.headline


def test_the_summary_says_when_the_control_wins(project):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    by_name = {model.name: model for model in models}
    one, other = by_name["student-vits-pseudo"], by_name["student-vits-synthetic"]
    one.per_image, other.per_image = other.per_image, one.per_image
    findings = summarise([one, other], ["wild_eval"], unseen=["wild_eval"])
    assert findings[0].tone == "fail"
    assert findings[0].headline.startswith("Pseudo-labels are worse than synthetic images")


def test_equal_students_make_no_clear_difference(project):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    by_name = {model.name: model for model in models}
    one, other = by_name["student-vits-pseudo"], by_name["student-vits-synthetic"]
    one.per_image = other.per_image
    finding = summarise([one, other], ["wild_eval"], unseen=["wild_eval"])[0]
    assert finding.headline.startswith("Pseudo-labels make no clear difference")
    assert difference(one, other, "wild_eval", "delta1") == (0.0, 0.0, 0.0)


def test_a_ramp_that_wins_is_named(project):
    models, _ = read_models(Path("reports/evaluation"), matrix())
    by_name = {model.name: model for model in models}
    teacher, ramp = by_name["teacher"], by_name["trivial-ramp"]
    measure = next(entry for entry in MEASURES if entry.key == "delta1")
    assert beaten_by(teacher, models, "wild_eval", measure) == ""
    ramp.metrics = ramp.metrics | {"wild_eval": {"delta1": 0.9999, "num_images": 5}}
    teacher.metrics = teacher.metrics | {"wild_eval": {"delta1": 0.9, "num_images": 5}}
    assert beaten_by(teacher, models, "wild_eval", measure) == "ramp"
    finding = summarise([teacher, ramp], ["wild_eval"], unseen=[])[0]
    assert finding.tone == "warn"
    assert finding.details == ("wild_eval, δ1 %: ramp (100.0) is no worse than teacher (90.0).",)


def test_gates_are_summed_up():
    assert gate_findings([]) == []
    (good,) = gate_findings([verdict("data"), verdict("teacher")])
    assert (good.tone, good.headline) == ("pass", "All gates passed: 2 expectations.")
    (bad,) = gate_findings([verdict("data", "labelled", success=False), verdict("teacher")])
    assert (bad.tone, bad.headline) == ("fail", "Not passed: data labelled.")
    assert bad.details == ("Images are large. Limit at least 84, seen 3.",)


def matrix():
    from stages.matrix import MatrixParams
    from stages.params import load

    return load("matrix", MatrixParams)
