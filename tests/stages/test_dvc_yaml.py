"""The pipeline file agrees with the code."""

import re
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from stages.dependencies import PIPELINE, main, modules_of, with_code_dependencies
from stages.imports import closure
from stages.matrix import MatrixParams
from stages.params import load

STAGES = YAML(typ="safe").load(PIPELINE)["stages"]


def definition(name: str) -> dict:
    stage = STAGES[name]
    return stage.get("do", stage)


def module(name: str) -> str:
    found = re.search(r"python -m stages\.(\w+)", definition(name)["cmd"])
    assert found is not None
    return found.group(1)


def test_dvc_accepts_every_stage():
    with Repo() as repo:
        names = {stage.name.partition("@")[0] for stage in repo.index.stages}
    without = {"train_student_both", "train_student_warm", "train_student_live", "warm_encoder"}
    assert names == set(STAGES) - without


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """All stages, with one encoder for students of both and one to warm."""
    parameters = YAML(typ="safe").load(Path("params.yaml"))
    parameters["matrix"] |= {"both": ["vit64x4"], "warm": ["vit128x6"], "live": ["vit64x4"]}
    with (tmp_path / "params.yaml").open("w") as stream:
        YAML(typ="safe").dump(parameters, stream)
    (tmp_path / "dvc.yaml").write_text(PIPELINE.read_text())
    monkeypatch.chdir(tmp_path)
    with Repo.init(no_scm=True) as repo:
        return list(repo.index.stages)


@pytest.fixture
def needs(stages):
    """For each stage, what it depends on."""
    found = {stage.name: {str(dep) for dep in stage.deps} for stage in stages}
    folders = ("data/", "models/", "reports/")
    return {name: {dep for dep in deps if dep.startswith(folders)} for name, deps in found.items()}


def test_the_models_that_may_be_evaluated_are_those_that_stages_make(stages):
    outputs = [Path(out.def_path) for stage in stages for out in stage.outs]
    made = {path.stem for path in outputs if path.suffix == ".safetensors"}
    assert {"encoder-vit128x6", "student-vit128x6-warm", "student-vit64x4-live"} < made
    assert set(load("matrix", MatrixParams).made()) == made - {"encoder-vit128x6"}


def test_a_student_of_both_needs_both_and_leaves_the_others_alone(needs):
    def kind(labels):
        return {f"data/training/{labels}", f"reports/gates/{labels}.json"}

    assert needs["train_student_both@vit64x4"] == kind("pseudo") | kind("synthetic")
    for labels in ("pseudo", "synthetic"):
        assert needs[f"train_student@vit64x4-{labels}"] == kind(labels)


def test_only_the_student_from_a_warmed_encoder_waits_for_it(needs):
    encoder = "models/encoder-vit128x6.safetensors"
    assert needs["warm_encoder@vit128x6"] == {"data/gated/unlabelled.parquet"}
    assert needs["train_student_warm@vit128x6"] == {
        encoder, "data/training/pseudo", "reports/gates/pseudo.json"
    }  # fmt: skip
    assert [name for name, deps in needs.items() if encoder in deps] == [
        "train_student_warm@vit128x6"
    ]


def test_a_student_that_asks_the_teacher_needs_no_shards(needs):
    assert needs["train_student_live@vit64x4"] == {
        "data/gated/unlabelled.parquet", "models/teacher.safetensors", "reports/gates/teacher.json"
    }  # fmt: skip


def test_code_dependencies_are_those_that_make_deps_writes():
    assert with_code_dependencies(PIPELINE.read_text()) == PIPELINE.read_text()


@pytest.mark.parametrize("name", STAGES)
def test_deps_cover_every_module_that_the_stage_imports(name: str):
    needed = {path.as_posix() for path in closure([f"stages.{module(name)}"]).values()}
    missing = needed - set(definition(name)["deps"])
    assert not missing


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_depends_on_a_folder_of_ours_or_persists(name: str):
    ours = [dep for dep in definition(name)["deps"] if re.match(r"(dav2|stages)/", dep)]
    assert ours
    assert all(dep.endswith(".py") or Path(dep).is_file() for dep in ours)
    assert "persist" not in str(definition(name)["outs"])


def test_ingest_depends_on_the_one_reader_it_uses():
    deps = definition("ingest")["deps"]
    assert "dav2/data/${item.reader}.py" in deps
    assert not {"dav2/data/hypersim.py", "dav2/data/folder.py"} & set(deps)
    assert "dav2/data/images.py" in deps


def test_modules_are_written_after_what_a_person_wrote():
    text = (
        "stages:\n  x:\n    cmd: python -m stages.params\n    deps:\n      - data/raw\n    outs:\n"
    )
    expected = text.replace("data/raw\n", "data/raw\n      - stages/params.py\n")
    assert with_code_dependencies(text) == expected


def test_a_stale_module_is_dropped():
    text = "stages:\n  x:\n    cmd: python -m stages.params\n    deps:\n      - dav2/gone.py\n"
    assert "gone" not in with_code_dependencies(text)


def test_check_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stale = tmp_path / "dvc.yaml"
    stale.write_text("stages:\n  x:\n    cmd: python -m stages.params\n    deps: []\n")
    monkeypatch.setattr("stages.dependencies.PIPELINE", stale)
    with pytest.raises(SystemExit, match="run `make deps`"):
        main(check=True)
    main(check=False)
    assert modules_of("params") == ["stages/params.py"]
    main(check=True)
