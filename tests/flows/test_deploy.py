"""What prefect.yaml has `flows.deploy` put on a server; tests/soak puts it on one."""

import importlib
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.automations import AutomationCore
from prefect.client.schemas.schedules import CronSchedule
from ruamel.yaml import YAML

from flows import watch
from flows.deploy import main, with_alarm

ROOT = Path(__file__).resolve().parents[2]
WANTED = YAML(typ="safe").load(ROOT / "prefect.yaml")
DEPLOYMENTS = {one["name"]: one for one in WANTED["deployments"]}
ALARM = {"type": "alarm", "subject": "{{ flow.name }}", "body": "{{ flow_run.name }}"}


def test_an_alarm_becomes_a_run_of_the_flow_that_sends_it():
    action = {"type": "run-deployment", "source": "selected", "deployment_id": "7"}
    other = {"type": "do-nothing"}
    found = with_alarm({"name": "x", "actions": [other, ALARM]}, action)
    assert found["name"] == "x"
    assert found["actions"][0] == other
    assert found["actions"][1] == action | {
        "parameters": {
            "subject": {"__prefect_kind": "jinja", "template": "{{ flow.name }}"},
            "body": {"__prefect_kind": "jinja", "template": "{{ flow_run.name }}"},
        }
    }


def test_an_alarm_becomes_a_notification_of_the_server_where_a_block_is_named():
    action = {"type": "send-notification", "block_document_id": "7"}
    (found,) = with_alarm({"actions": [ALARM]}, action)["actions"]
    assert found == action | {"subject": "{{ flow.name }}", "body": "{{ flow_run.name }}"}


@pytest.mark.parametrize(
    "action",
    [
        {"type": "run-deployment", "source": "selected", "deployment_id": str(uuid4())},
        {"type": "send-notification", "block_document_id": str(uuid4())},
    ],
)
def test_prefect_knows_every_automation(action: dict):
    names = [
        AutomationCore.model_validate(with_alarm(wanted, action)).name
        for wanted in WANTED["server"]["automations"]
    ]
    assert len(set(names)) == len(names) == 4


def test_crashed_runs_are_not_restarted_for_ever():
    crashed = next(one for one in WANTED["server"]["automations"] if "restarted" in one["name"])
    assert crashed["trigger"]["match"]["prefect.run-count"] == ["1", "2", "3"]


def test_an_alarm_that_fails_raises_none():
    (tag,) = {
        one["trigger"]["match_related"]["prefect.resource.id"]
        for one in WANTED["server"]["automations"]
    }
    tagged = {name for name, one in DEPLOYMENTS.items() if f"prefect.tag.{one['tags'][0]}" == tag}
    assert tagged == set(DEPLOYMENTS) - {"notify"}


def test_every_deployment_runs_in_a_queue_that_is_made_under_a_limit_that_is_made():
    queues = {
        (pool["name"], queue["name"])
        for pool in WANTED["server"]["work_pools"]
        for queue in pool["work_queues"]
    }
    for deployment in DEPLOYMENTS.values():
        pool = deployment["work_pool"]
        assert (pool["name"], pool["work_queue_name"]) in queues
        limit = deployment["parameters"].get("gpu_limit")
        assert limit is None or limit in WANTED["server"]["concurrency_limits"]


def test_heartbeats_come_several_times_within_the_time_that_one_is_waited_for():
    zombies = next(one for one in WANTED["server"]["automations"] if "heartbeat" in one["name"])
    for deployment in DEPLOYMENTS.values():
        variables = deployment["work_pool"]["job_variables"]["env"]
        every_s = int(variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert zombies["trigger"]["within"] >= 3 * every_s


def test_schedules_are_times():
    crons = [
        CronSchedule(**schedule).cron
        for deployment in DEPLOYMENTS.values()
        for schedule in deployment.get("schedules", [])
    ]
    assert len(crons) == 2


def test_a_rebuild_listens_to_what_watch_says():
    (trigger,) = DEPLOYMENTS["rebuild"]["triggers"]
    assert trigger["expect"] == [watch.EVENT]
    assert trigger["match"] == {"prefect.resource.id": watch.RESOURCE}
    rebuild = importlib.import_module("flows.rebuild").rebuild
    assert set(trigger["parameters"]) <= set(rebuild.parameters.properties)


def test_without_a_server_nothing_is_deployed(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(SystemExit, match="PREFECT_API_URL: expected the address"):
        main([])
