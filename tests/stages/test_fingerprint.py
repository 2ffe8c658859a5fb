from pathlib import Path

import numpy as np
import pytest

from stages.fingerprint import code_fingerprint, fingerprint, library_versions, work_folder
from stages.imports import closure


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A chain stages.a -> dav2.b -> dav2.data.open, whose one branch imports dav2.data.reader."""
    files = {
        "stages/a.py": '"""A."""\nfrom dav2 import b\nX = 1\n',
        "dav2/b.py": "from dav2.data.open import f\nimport numpy\n",
        "dav2/data/open.py": "def f():\n    from dav2.data.reader import g\n    return g\n",
        "dav2/data/reader.py": "def g():\n    return 2\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_same_parts_same_mark_in_any_order_of_keys():
    assert fingerprint({"a": 1, "b": 2}, "x") == fingerprint({"b": 2, "a": 1}, "x")
    assert fingerprint("x") != fingerprint("y")
    assert len(fingerprint("x")) == 16


def test_closure_follows_imports_but_not_into_readers(project: Path):
    assert list(closure(["stages.a"], project)) == ["dav2.b", "dav2.data.open", "stages.a"]


def test_what_a_module_imports_when_it_is_run_counts_only_where_it_is_run(project: Path):
    (project / "dav2/b.py").write_text(
        'import numpy\nif __name__ == "__main__":\n    from dav2.program import main\n    main()\n'
    )
    (project / "dav2/program.py").write_text("def main():\n    from dav2 import b\n")
    assert list(closure(["stages.a"], project)) == ["dav2.b", "stages.a"]
    assert list(closure(["dav2.b"], project)) == ["dav2.b", "dav2.program"]


def test_what_a_module_imports_when_it_is_imported_counts(project: Path):
    (project / "dav2/b.py").write_text(
        'if __name__ == "__main__":\n    pass\nelse:\n    from dav2.data import reader\n'
    )
    assert list(closure(["stages.a"], project)) == ["dav2.b", "dav2.data.reader", "stages.a"]


def test_a_reader_named_itself_counts(project: Path):
    assert list(closure(["dav2.data.reader"], project)) == ["dav2.data.reader"]


def test_a_missing_module_is_named(project: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.py: expected the module dav2\.none"):
        closure(["dav2.none"], project)


def test_neither_comment_nor_docstring_changes_the_code_fingerprint(project: Path):
    before = code_fingerprint(["stages.a"], project)
    (project / "stages/a.py").write_text(
        '"""Said better."""\n# and explained\nfrom dav2 import b\nX  =  1\n'
    )
    assert code_fingerprint(["stages.a"], project) == before


def test_a_changed_value_anywhere_in_the_closure_changes_it(project: Path):
    before = code_fingerprint(["stages.a"], project)
    (project / "dav2/b.py").write_text("from dav2.data.open import f\nimport numpy\nY = 1\n")
    assert code_fingerprint(["stages.a"], project) != before


def test_what_is_left_out_changes_nothing_and_neither_does_what_it_alone_imports(project: Path):
    (project / "dav2/b.py").write_text("from dav2 import c, d\n")
    (project / "dav2/c.py").write_text("from dav2 import d, e\n")
    (project / "dav2/d.py").write_text("X = 1\n")
    (project / "dav2/e.py").write_text("X = 1\n")
    left = ["dav2.c"]
    assert list(closure(["stages.a"], project, without=left)) == ["dav2.b", "dav2.d", "stages.a"]
    before = code_fingerprint(["stages.a"], project, without=left)
    for name in ("c", "e"):
        (project / f"dav2/{name}.py").write_text("X = 2\n")
    assert code_fingerprint(["stages.a"], project, without=left) == before
    (project / "dav2/d.py").write_text("X = 2\n")
    assert code_fingerprint(["stages.a"], project, without=left) != before


def test_work_folder_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert work_folder("train", "abc").is_dir()
    assert (tmp_path / ".work/train/abc").is_dir()


def test_library_versions_are_the_installed_ones():
    assert library_versions("numpy") == {"numpy": np.__version__}
