"""A served model over HTTP: hostile requests get a 4xx with one line, and the server lives."""

import json
import time

import pytest

from benchmarks.serving import hostile, memory_mb, photograph, post, request, served
from stages.register import main
from tests.fixtures.registry import MODEL, NAME, write_project

pytestmark = pytest.mark.soak


@pytest.mark.timeout(600)
def test_hostile_requests_are_refused_and_the_server_lives(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_project(tmp_path)
    main(MODEL)
    settings = tmp_path / "mlflow" / "serving.yaml"
    settings.write_text(settings.read_text().replace("window: 500", "window: 5"))
    honest = request(photograph(60, 80))
    with served(f"{NAME}@challenger") as (port, server):
        status, text = post(port, honest)
        (answer,) = json.loads(text)["predictions"]
        assert (status, answer["height"], answer["width"]) == (200, 60, 80)
        before_mb = memory_mb(server)
        for name, content in hostile().items():
            status, text = post(port, content)
            assert status in (400, 413), name
            assert "\n" not in json.loads(text)["message"], name
        assert post(port, honest)[0] == 200
        assert "drift: " not in capfd.readouterr().err  # of what was refused nothing counts
        for _ in range(3):
            assert post(port, honest)[0] == 200
        assert "drift: brightness " in waited_for(capfd, "aspect ")
        assert memory_mb(server) < before_mb + 500
    assert not server.is_running()


def waited_for(capfd, text, within_s=20):
    """Returns what was written to the standard error until a text came."""
    seen = ""
    deadline_s = time.monotonic() + within_s
    while text not in seen:
        assert time.monotonic() < deadline_s, seen
        time.sleep(0.2)
        seen += capfd.readouterr().err
    return seen
