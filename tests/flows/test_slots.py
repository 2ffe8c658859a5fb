import pytest

from flows.graph import Stage
from flows.slots import Plan


def test_stages_for_gpus_wait_for_one_and_others_do_not():
    stages = {
        name: Stage(name, "", (), ()) for name in ["evaluate@a", "evaluate@b", "ingest@x", "report"]
    }
    plan = Plan(stages, 1, ["2,3"])
    started = [plan.next(), plan.next(), plan.next()]
    assert [stage and stage.name for stage in started] == ["evaluate@a", "ingest@x", None]
    assert plan.running == {"evaluate@a": "2,3", "ingest@x": None}
    plan.ended("evaluate@a", "Completed")
    following = plan.next()
    assert following is not None
    assert following.name == "evaluate@b"


def test_fewer_than_one_slot_is_refused():
    with pytest.raises(ValueError, match="cpu_slots: expected at least 1, got 0"):
        Plan({}, 0, [])
