import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows.rebuild import main, rebuild

ROOT = Path(__file__).resolve().parents[2]


def states_of(state) -> dict[str, str]:
    """How each task of a flow run ended, as the server has it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        runs = client.read_task_runs(flow_run_filter=chosen)
    return {run.name: run.state_name for run in runs}


def artifacts() -> dict[str, object]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return {artifact.key: artifact.data for artifact in client.read_artifacts()}


def spans(project: Path) -> dict[str, tuple[float, float]]:
    """Begin and end of each step that ran, seconds."""
    found: dict[str, list[float]] = {}
    for line in (project / "ran.log").read_text().splitlines():
        _, name, at = line.split()
        found.setdefault(name, []).append(float(at))
    return {name: (times[0], times[-1]) for name, times in found.items()}


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.slow
def test_runs_then_finds_all_up_to_date_then_restores(project: Path, dvc: Callable[..., str]):
    first = rebuild(return_state=True)
    assert first.is_completed(), first.message
    names = {"left", "right", "gate_join", "report"}
    assert {name: states_of(first)[name] for name in names} == dict.fromkeys(names, "Completed")
    assert dvc("status", "--json").strip() == "{}"
    assert re.match(r"prove_nothing_left", " ".join(sorted(set(states_of(first)) - names)))

    second = rebuild(return_state=True)
    assert {states_of(second)[name] for name in names} == {"UpToDate"}
    assert second.message == "4 UpToDate"

    shown = artifacts()
    assert "flowchart TD" in shown["pipeline"]
    assert "it is so" in shown["gates"]
    assert '"metric": "wild.delta1"' in shown["metrics"]

    (project / "source.txt").write_text("2")
    assert rebuild(["left"], return_state=True).is_completed()
    (project / "source.txt").write_text("1")
    third = rebuild(["left"], return_state=True)
    assert states_of(third) == {"left": "Restored"}
    assert (project / "left.txt").read_text() == "left1"


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.slow
def test_slots_limit_how_many_stages_run_at_once(project: Path):
    assert rebuild(["gate_join"], return_state=True).is_completed()
    alone = spans(project)
    assert alone["left"][1] < alone["right"][0] or alone["right"][1] < alone["left"][0]

    (project / "ran.log").unlink()
    (project / "source.txt").write_text("2")
    (project / "left.order").write_text("meet")
    (project / "right.order").write_text("meet")
    assert rebuild(["gate_join"], cpu_slots=2, return_state=True).is_completed()
    both = spans(project)
    assert both["join"][0] > max(both["left"][1], both["right"][1])
    assert "report" not in both


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.slow
def test_what_needs_a_failed_stage_is_not_run_and_the_rest_is(project: Path):
    (project / "left.order").write_text("fail")
    state = rebuild(retries=1, retry_delay_s=0.1, return_state=True)
    assert state.is_failed()
    assert state.message == "failed: left (1 Failed, 1 Completed, 2 NotRun)"
    ended = states_of(state)
    assert (ended["left"], ended["right"]) == ("Failed", "Completed")
    assert ended["gate_join"] == ended["report"] == "NotReady"
    assert (project / "ran.log").read_text().count("start left") == 2  # tried once more


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.slow
def test_a_gate_that_blocks_is_tried_once_and_leaves_a_partial_report(project: Path):
    (project / "join.order").write_text("fail")
    assert main(["--retries", "2", "--retry-delay-s", "0.1"]) == 1
    assert (project / "ran.log").read_text().count("start join") == 1
    assert (project / "partial.txt").read_text() == "so far"
    assert not (project / "report.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nonsense"], "expected a stage named 'nonsense'"),
        (["--cpu-slots", "0"], "cpu_slots: expected at least 1, got 0"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_bad_command_line_is_refused_in_one_line(arguments: list[str], line: str):
    with pytest.raises(SystemExit, match=line):
        main(arguments)


def test_parameters_that_do_not_fit_are_refused_before_anything_runs(project: Path):
    for package in ("stages", "dav2"):
        (project / package).symlink_to(ROOT / package)
    text = (ROOT / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("num_steps:", "num_step:", 1))
    with pytest.raises(SystemExit, match=r"^params\.yaml: .*num_step"):
        main([])
    assert not (project / "ran.log").exists()


@pytest.mark.usefixtures("project")
def test_a_terminated_run_leaves_no_server_of_its_own(monkeypatch):
    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])

    bystander, servers = start(), []

    def terminated(**_):
        servers.append(start())
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on after SIGTERM")

    monkeypatch.setattr("flows.rebuild.rebuild", terminated)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"):
        main([])
    assert servers[0].wait(10) == -signal.SIGTERM
    assert not psutil.pid_exists(servers[0].pid)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelling_leaves_no_process(project: Path, number: signal.Signals):
    from prefect.settings import get_current_settings

    (project / "left.order").write_text("hang")
    environment = get_current_settings().to_environment_variables(include_secrets=True)
    # What runs in the background of a shell inherits that SIGINT is ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    code += "from flows.rebuild import main; sys.exit(main([]))"
    flow = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        start_new_session=True,
        stdout=(project / "said.txt").open("wb"),
        stderr=subprocess.STDOUT,
    )
    hanging = project / "hanging"
    deadline_s = time.monotonic() + 60
    while not (hanging.exists() and hanging.read_text()):
        assert flow.poll() is None, (project / "said.txt").read_text()
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    started = psutil.Process(flow.pid).children(recursive=True)
    assert int(hanging.read_text()) in [process.pid for process in started]
    os.kill(flow.pid, number)
    assert flow.wait(120) != 0  # it ends, however busy the machine is
    assert [process for process in started if lives(process)] == []
    assert not (project / "left.txt").exists()
