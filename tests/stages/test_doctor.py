import importlib.metadata
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages import doctor
from stages.doctor import Finding, differing, disk, main, outdated, parameters, versions


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


def test_packages_of_the_lock_must_be_the_ones_installed():
    numpy = importlib.metadata.version("numpy")
    lines = [
        f"numpy=={numpy} \\",
        "    --hash=sha256:00",
        "# a comment",
        "pandas==0.1 \\",
        "no-such-package==1.0",
        'pywin32==300 ; sys_platform == "win32"',
    ]
    wrong = differing(lines)
    assert wrong[0].startswith("pandas: expected ==0.1, got ")
    assert wrong[1:] == ["no-such-package: expected ==1.0, got none"]


def test_a_package_that_does_not_import_is_broken(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    monkeypatch.setattr(doctor, "PROBES", (("numpy", "import numpy"), ("torch", "import torchh")))
    *_, good, bad = versions()
    assert good == Finding("ok", f"numpy {importlib.metadata.version('numpy')}")
    assert bad.kind == "broken"
    assert "torch: expected to import, got ModuleNotFoundError" in bad.text


def test_a_missing_lock_is_broken(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "PROBES", (("numpy", "pass"),))
    assert kinds(versions()) == ["ok", "broken", "ok"]


def test_too_little_space_is_broken(monkeypatch):
    monkeypatch.setattr(doctor, "MIN_FREE_GB", 1e9)
    assert kinds(disk()) == ["broken"]
    monkeypatch.setattr(doctor, "MIN_FREE_GB", 0.0)
    assert kinds(disk()) == ["ok"]


def test_names_what_is_wrong_with_the_parameters(tmp_path: Path, monkeypatch):
    shipped = Path("params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    assert "expected a parameters file" in parameters()[0].text
    (tmp_path / "params.yaml").write_text(shipped.replace("num_steps:", "num_stepz:", 1))
    lines = [finding.text for finding in parameters()]
    assert any("train_teacher.num_stepz: Extra inputs are not permitted" in line for line in lines)


def test_names_a_source_whose_folder_is_missing(tmp_path: Path, monkeypatch):
    shipped = Path("params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    added = "sources:\n  mine:\n    reader: folder\n    root: ../mine\n    watch: ../mine\n"
    added += "    domain: mixed\n    roles:\n      unlabelled: [all]\n"
    (tmp_path / "params.yaml").write_text(shipped.replace("sources:\n", added, 1))
    (finding,) = parameters()
    assert finding.kind == "broken"
    assert finding.text == "params.yaml: sources.mine: expected data at ../mine, got nothing"


def test_counts_changed_stages_and_what_follows_from_them(
    tmp_path: Path, monkeypatch, initialised: Path
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(initialised, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")

    def dvc(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True)

    stage = "  {0}:\n    cmd: cp {1} {0}.txt\n    deps: [{1}]\n    outs: [{0}.txt]\n"
    pairs = [("a", "in.txt"), ("b", "a.txt"), ("c", "b.txt"), ("d", "other.txt")]
    (tmp_path / "dvc.yaml").write_text("stages:\n" + "".join(stage.format(*p) for p in pairs))
    (tmp_path / "in.txt").write_text("1")
    (tmp_path / "other.txt").write_text("1")
    dvc("repro", "--quiet")
    assert outdated() == ([], [], 4)
    (tmp_path / "in.txt").write_text("2")
    assert outdated() == (["a"], ["b", "c"], 4)


def test_anything_broken_makes_the_exit_status_1(monkeypatch, caplog):
    for name in ("versions", "devices", "disk", "parameters", "rebuild"):
        monkeypatch.setattr(doctor, name, lambda: [Finding("ok", "fine")])
    with caplog.at_level(logging.INFO):
        assert main() == 0
        assert "Nothing is broken." in caplog.text
        monkeypatch.setattr(doctor, "disk", lambda: [Finding("broken", "full")])
        assert main() == 1
    assert "BROKEN full" in caplog.text
    assert "1 broken, see above." in caplog.text


def test_sums_groups_up_and_names_a_broken_pipeline(monkeypatch):
    names = ["render@a", "render@b", "report"]
    monkeypatch.setattr(doctor, "_code_dependencies", lambda: Finding("ok", "named"))
    monkeypatch.setattr(doctor, "outdated", lambda: (names, ["gate_data"], 9))
    lines = [finding.text for finding in doctor.rebuild()]
    assert lines[1:] == [
        "4 of 9 stages would run or come from the cache; changed: render (2), report",
        "what follows from them: gate_data",
    ]
    monkeypatch.setattr(doctor, "outdated", lambda: ([], [], 9))
    assert doctor.rebuild()[1] == Finding("ok", "all 9 stages are up to date")


def test_a_pipeline_that_dvc_refuses_is_broken_and_one_at_work_is_not(monkeypatch):
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    def refuse(error: Exception):
        def outdated():
            raise error

        return outdated

    monkeypatch.setattr(doctor, "outdated", refuse(DvcException("no such\n stage")))
    assert doctor.rebuild() == [Finding("broken", "dvc.yaml: no such stage")]
    monkeypatch.setattr(doctor, "outdated", refuse(LockError("taken")))
    assert kinds(doctor.rebuild()) == ["note"]


@pytest.mark.slow
def test_this_environment_is_whole(monkeypatch):
    # The probes in this process: nine of their own take half a minute to import the same.
    for _, code in doctor.PROBES:
        exec(code, {})
    monkeypatch.setattr(doctor, "PROBES", ())
    assert [finding.text for finding in versions() if finding.kind == "broken"] == []
