"""What the project tells Prefect in prefect.toml and prefect.yaml."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]


def test_importing_a_flow_switches_telemetry_off_before_prefect_is_imported():
    code = "import sys, flows; assert 'prefect' not in sys.modules\n"
    code += "import flows.rebuild\n"
    code += "from prefect.analytics import is_telemetry_enabled as on; sys.exit(on())"
    environment = {name: value for name, value in os.environ.items() if name != "DO_NOT_TRACK"}
    environment.pop("CI", None)
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment).returncode == 0


def test_servers_started_here_report_nothing_and_keep_their_files_here():
    code = "from prefect.settings import get_current_settings as now\n"
    code += "print(now().home, now().server.analytics_enabled)"
    environment = {key: value for key, value in os.environ.items() if "PREFECT" not in key}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert shown.stdout.split() == [".prefect", "False"]


def test_every_deployment_names_a_flow_and_parameters_it_has():
    deployments = YAML(typ="safe").load(ROOT / "prefect.yaml")["deployments"]
    assert deployments
    for deployment in deployments:
        file, _, name = deployment["entrypoint"].partition(":")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        flow = vars(module)[name]
        assert set(deployment["parameters"]) <= set(inspect.signature(flow.fn).parameters)
