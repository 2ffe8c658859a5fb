"""A real Prefect server on PostgreSQL: deployed, scheduled, triggered, limited."""

from collections.abc import Iterator

import pytest

from stages.drift import want_rebuild
from tests.fixtures.prefect_team import Team, started_team

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    """Deployed by one command; its watch fires every minute."""
    with started_team(watch_cron="* * * * *") as made:
        done = made.python("flows.deploy")
        assert done.returncode == 0, done.stderr
        yield made


def everything(team: Team) -> dict[str, list[str]]:
    client = team.client
    queues = client.read_work_queues(work_pool_name="local")
    return {
        "deployments": sorted(f"{one.name} {one.id}" for one in client.read_deployments()),
        "automations": sorted(one.name for one in client.read_automations()),
        "queues": sorted(f"{queue.name} {queue.priority} {queue.id}" for queue in queues),
        "limits": [
            f"{limit.name} {limit.limit}"
            for limit in client.read_global_concurrency_limits(limit=10, offset=0)
            if not limit.name.startswith("deployment:")
        ],
    }


def test_one_command_deploys_and_again_changes_nothing(team: Team):
    first = everything(team)
    names = [line.split()[0] for line in first["deployments"]]
    assert names == ["evaluate", "notify", "other", "promote", "rebuild", "watch"]
    assert len(first["automations"]) == 5
    assert first["limits"] == ["gpu 1"]
    done = team.python("flows.deploy")
    assert done.returncode == 0, done.stderr
    assert "automation dav2 crashed runs are restarted" in done.stdout
    assert everything(team) == first


def test_a_server_without_the_password_is_refused(team: Team):
    known = team.environment.pop("PREFECT_API_AUTH_STRING")
    try:
        done = team.python("flows.deploy")
    finally:
        team.environment["PREFECT_API_AUTH_STRING"] = known
    assert done.returncode == 1
    assert "401" in done.stderr


def test_the_nightly_rebuild_is_scheduled(team: Team):
    runs = team.wait(
        lambda: [run for run in team.runs("rebuild/rebuild") if run.state_name == "Scheduled"],
        "scheduled rebuilds",
    )
    assert all(run.auto_scheduled for run in runs)
    assert {run.next_scheduled_start_time.hour for run in runs} == {3}


def test_a_schedule_fires_sees_a_changed_source_and_its_event_starts_a_rebuild(team: Team):
    def ended() -> list:
        runs = [run for run in team.runs("watch/watch") if run.state.is_final()]
        return [run for run in runs if "a rebuild is wanted" in (run.state.message or "")]

    with team.worker():
        seen = team.wait(ended, "a watch that saw the photographs", within_s=240)[0]
        assert seen.auto_scheduled
        assert seen.state.message.startswith("photos changed")
        watched = team.client.read_deployment_by_name("watch/watch")
        team.client.update_deployment_schedule(watched.id, watched.schedules[0].id, active=False)

        def rebuilt() -> list:
            runs = [run for run in team.runs("rebuild/rebuild") if not run.auto_scheduled]
            return [run for run in runs if run.state.is_final()]

        run = team.wait(rebuilt, "a rebuild after the event")[0]
    assert run.state.is_completed(), run.state.message
    assert run.created_by.type == "AUTOMATION"
    assert "wanted because photos changed" in team.lines(run.id)
    assert (team.project / "train_student.txt").exists()


def test_a_server_that_sees_drifting_images_triggers_a_retraining(
    team: Team, monkeypatch: pytest.MonkeyPatch
):
    team.renew()
    before = {run.id for run in team.runs("rebuild/rebuild")}
    for name, value in team.environment.items():
        monkeypatch.setenv(name, value)
    assert want_rebuild("drifting images")

    def new() -> list:
        runs = team.runs("rebuild/rebuild")
        return [run for run in runs if run.id not in before and not run.auto_scheduled]

    run = team.wait(new, "a rebuild after the event")[0]
    assert run.parameters["reason"] == "drifting images"
    with team.worker():
        team.wait(lambda: team.states(run.id)[-1] == "Completed", "its end")
    assert "train_teacher" in team.spans()


def test_the_limit_has_stages_on_a_gpu_wait_for_one_another_over_runs(team: Team):
    team.renew()
    for stage in ("train_teacher", "train_student"):
        team.order(stage, "sleep")
    with team.worker():
        runs = [
            team.start_run("rebuild/rebuild", targets=["train_teacher"], gpus=["0"]),
            team.start_run("rebuild/other", targets=["train_student"], gpus=["0"]),
        ]
        for run in runs:
            team.wait(lambda run=run: team.states(run)[-1] == "Completed", "its end")
    spans = team.spans()
    first, second = sorted(spans.values())
    assert first[1] < second[0], spans
    begun = [team.client.read_flow_run(run).start_time for run in runs]
    assert abs((begun[0] - begun[1]).total_seconds()) < 6  # both ran, one of them waiting


def test_without_gpus_the_same_two_runs_go_side_by_side(team: Team):
    team.renew()
    for stage in ("train_teacher", "train_student"):
        team.order(stage, "sleep")
    with team.worker():
        runs = [
            team.start_run("rebuild/rebuild", targets=["train_teacher"]),
            team.start_run("rebuild/other", targets=["train_student"]),
        ]
        for run in runs:
            team.wait(lambda run=run: team.states(run)[-1] == "Completed", "its end")
    first, second = sorted(team.spans().values())
    assert first[1] > second[0]


def test_a_failed_run_raises_an_alarm_in_the_log(team: Team):
    team.renew()
    team.order("train_teacher", "fail")
    with team.worker():
        run = team.start_run("rebuild/rebuild", targets=["train_teacher"])
        team.wait(lambda: team.states(run)[-1] == "Failed", "its end")
        name = team.client.read_flow_run(run).name

        def alarms() -> list:
            ended = [one for one in team.runs("notify/notify") if one.state.is_final()]
            lines = [line for one in ended for line in team.lines(one.id)]
            return [line for line in lines if name in line]

        alarm = team.wait(alarms, "an alarm")[0]
    assert alarm == f"rebuild {name}: Failed: failed: train_teacher (1 Failed)"
