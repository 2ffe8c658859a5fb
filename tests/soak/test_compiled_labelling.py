"""A compiled teacher labels as the plain one, to the same bytes each time. Minutes of compiling."""

import json
import shutil

import numpy as np
import pytest

from dav2.data.shards import ShardReader
from tests.fixtures.labelling import ARGUMENTS, Project

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

NUM_PHOTOGRAPHS = 60


def label(project):
    """Labels from nothing, where no types are checked: those would be compiled too."""
    for name in (".work", "data"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
    process = project.start()
    shown = "".join(process.communicate(timeout=900))
    assert process.returncode == 0, shown
    reader = ShardReader(project.folder / ARGUMENTS[2])
    maps = [reader.read(place).relative_depth for place in range(len(reader))]
    (summary,) = (project.folder / "data").rglob("summary.json")
    return project.tree(), maps, json.loads(summary.read_bytes())["recipe"]


def test_compiled_labels_are_those_of_the_plain_teacher_and_the_same_twice(tmp_path, monkeypatch):
    # What was compiled before would be taken again, and prove nothing.
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    project = Project(tmp_path)
    project.add_photographs("wild", NUM_PHOTOGRAPHS)
    project.params |= {"samples_per_shard": 30, "batch_size": 4}
    project.write()
    _, plain, recipe = label(project)
    project.params["compile"] = True
    project.write()
    first, compiled, other_recipe = label(project)
    assert other_recipe != recipe
    assert any(not np.array_equal(one, two) for one, two in zip(compiled, plain, strict=True))
    for one, two in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3 * np.ptp(two))
    again = label(project)[0]
    assert [name for name in first if again[name] != first[name]] == []
