"""The flow runs the stages that register and promote, and ends as they decide."""

import json
from pathlib import Path

import pytest

from flows.promote import main

# What the stages do as far as the flow sees it: they write a file and end with a status.
STAGE = """
import json, pathlib, sys
name, *flags = sys.argv[1:]
place = pathlib.Path(".work/{folder}")
place.mkdir(parents=True, exist_ok=True)
result = place / f"{{name}}.json"
if "--outcome" in flags:
    result = pathlib.Path(flags.pop())
    flags.remove("--outcome")
with open("calls.log", "a") as log:
    log.write(" ".join([name, *flags]) + "\\n")
if name == "broken":  # while another run decides
    (place / "broken.json").write_text('{{"done": true, "says": "of another", "rules": []}}')
    sys.exit("{module}: expected a challenger, got none")
done = name != "refused"
rows = [] if flags else [dict(measure="wild/delta1", gain=0.1, is_met=done)]
content = dict(name="family", version="1", done=done, says=f"{{name}} decided", rules=rows)
result.write_text(json.dumps(content))
sys.exit(0 if done else 1)
"""


@pytest.fixture
def project(tmp_path, monkeypatch, prefect_server):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    for module, folder in (("register", "registered"), ("promote", "promotion")):
        text = STAGE.format(module=module, folder=folder)
        (tmp_path / "stages" / f"{module}.py").write_text(text)
    return tmp_path


def test_registers_promotes_and_shows_the_comparison(project, capsys):
    assert main(["--register", "student"]) == 0
    assert Path("calls.log").read_text() == "student\nfamily\n"
    assert capsys.readouterr().out == "family decided\n"
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    (table,) = [json.loads(a.data) for a in artifacts if a.key == "promotion"]
    assert table == [{"measure": "wild/delta1", "gain": 0.1, "is_met": True}]


def test_a_refusal_fails_the_run_and_leaves_an_old_decision_aside(project, capsys):
    old = Path(".work/promotion/refused.json")
    old.parent.mkdir(parents=True)
    old.write_text('{"done": true}')
    assert main(["refused", "--approve"]) == 1
    assert capsys.readouterr().out == "refused decided\n"
    assert Path("calls.log").read_text() == "refused --approve\n"


def test_a_stage_that_decides_nothing_is_quoted(project, capsys):
    assert main(["broken", "--rollback"]) == 1
    assert "expected a challenger, got none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "expected either a registered model or --register"),
        (["a", "--register", "b"], "expected either a registered model or --register"),
        (["--register", "b", "--rollback"], "--rollback of a registered model"),
        (["a", "--approve", "--rollback"], "not allowed with argument"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(arguments, why, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert why in capsys.readouterr().err
