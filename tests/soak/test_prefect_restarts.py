"""Prefect's server or PostgreSQL is restarted in the middle of a rebuild: no stage runs twice."""

import time
from collections.abc import Iterator

import psutil
import pytest

from flows import postgres
from tests.fixtures.prefect_team import Team, started_team

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

AWAY_S = 6.0


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    with started_team() as made:
        done = made.python("flows.deploy")
        assert done.returncode == 0, done.stderr
        watched = made.client.read_deployment_by_name("watch/watch")
        made.client.update_deployment_schedule(watched.id, watched.schedules[0].id, active=False)
        yield made


def crash(team: Team, server: str) -> None:
    """Ends a server at once."""
    if server == "postgres":
        data = team.servers.folder / "postgres"
        postgres._control(data, "stop", "--wait", "--mode", "immediate")
        return
    leader = team.servers._process(server)
    processes = [leader, *leader.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)


@pytest.mark.parametrize("server", ["prefect", "postgres"])
def test_a_rebuild_ends_well_and_runs_each_stage_once(team: Team, server: str):
    team.renew()
    names = ["train_teacher", "train_student"]
    for name in names:
        team.order(name, "sleep")
    ran = team.project / "ran.log"
    with team.worker():
        run = team.start_run("rebuild/rebuild", targets=names)
        team.wait(lambda: ran.exists(), "a stage that runs")
        crash(team, server)
        time.sleep(AWAY_S)
        team.servers.start(server)
        team.wait(lambda: team.client.read_flow_run(run).state.is_final(), "its end", 300)
    assert team.states(run)[-1] == "Completed", "\n".join(team.lines(run))
    ends = [line.split()[1] for line in ran.read_text().splitlines() if line.startswith("end")]
    assert sorted(ends) == sorted(names)
    assert "Crashed" not in team.states(run)
