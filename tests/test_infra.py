"""What a container engine would refuse, or should: none is at hand where this is tested."""

import json
import re
import subprocess
import tomllib
from importlib.metadata import requires
from itertools import chain
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from flows.servers import DATABASES, SECRETS

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"
LOCK = ROOT / "requirements.lock"
DOCKERFILES = ("cpu.Dockerfile", "cuda.Dockerfile")
SERVICE_KEYS = {
    "build", "cap_drop", "command", "configs", "depends_on", "deploy", "environment", "healthcheck",
    "image", "networks", "ports", "profiles", "read_only", "restart", "security_opt", "shm_size",
    "stop_grace_period", "tmpfs", "user", "volumes", "working_dir",
}  # fmt: skip
SERVERS_NEED = ("boto3", "mlflow", "prefect", "psycopg[binary]")


@pytest.fixture(scope="module")
def compose():
    return YAML(typ="safe").load(INFRA / "compose.yaml")


def variables():
    """Returns the values of the example, by name."""
    lines = (INFRA / "example.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def closure(*wanted):
    """Returns the canonical names of packages and of all that they need, as installed here."""
    found, waiting = set(), [(Requirement(text), "") for text in wanted]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found.add(key[0])
        for text in requires(requirement.name) or ():
            waiting += [(Requirement(text), extra) for extra in ("", *requirement.extras)]
    return found


def instructions(name, tmp_path):
    """Returns the instructions of a Dockerfile by stage, as pairs of keyword and value."""
    parser = DockerfileParser(path=str(tmp_path / "Dockerfile"))
    parser.content = (INFRA / name).read_text()
    stages, current = {}, []
    for entry in parser.structure:
        keyword, value = entry["instruction"], entry["value"]
        if keyword == "FROM":
            image, _, stage = value.partition(" AS ")
            current = stages[stage] = [("FROM", image)]
        elif keyword != "COMMENT":
            current.append((keyword, value))
    return stages


def filtered(name, output, tmp_path):
    """Returns the packages that a Dockerfile keeps in one of its locks, with their lines."""
    commands, environment = [], {"PATH": "/usr/bin:/bin"}
    for keyword, value in chain(*instructions(name, tmp_path).values()):
        if keyword == "ENV" and "|" in value:
            environment |= dict(re.findall(r'(\w+)="([^"]*)"', value))
        if keyword == "RUN" and output in value and "awk" in value:
            commands.append(value.partition(" && ")[0].replace("/locks/", ""))
    (command,) = commands
    (tmp_path / "requirements.lock").write_bytes(LOCK.read_bytes())
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, env=environment, check=True)
    text = (tmp_path / output).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)(==.*(?:\n .*)*)", text, flags=re.M))


def test_images_have_a_version_and_are_built_from_files_that_exist(compose):
    for name, service in compose["services"].items():
        if "build" in service:
            file = ROOT / service["build"]["dockerfile"]
            assert (INFRA / service["build"]["context"]).resolve() == ROOT
            assert f" AS {service['build']['target']}\n" in file.read_text(), name
        else:
            tag = service["image"].rpartition(":")[2]
            assert re.fullmatch(r"\d+\.\d+[\w.-]*", tag), service["image"]


def test_services_use_known_keys_and_what_is_defined(compose):
    for name, service in compose["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service["networks"]) <= set(compose["networks"])
        for config in service.get("configs", ()):
            assert config["source"] in compose["configs"]
        for volume in service.get("volumes", ()):
            if isinstance(volume, str):
                assert volume.partition(":")[0] in compose["volumes"]
        for other, wait in service.get("depends_on", {}).items():
            needed = compose["services"][other]
            if wait["condition"] == "service_healthy":
                assert needed["healthcheck"]["test"]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert needed["restart"].startswith("on-failure")


def test_nothing_listens_beyond_this_machine(compose):
    published = 0
    for service in compose["services"].values():
        for port in service.get("ports", ()):
            assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)
            published += 1
    assert published == 3
    assert compose["networks"]["servers"]["internal"] is True
    assert compose["services"]["postgres"]["networks"] == ["servers"]  # no way in or out


def test_every_variable_stands_in_the_example_and_no_secret_has_a_default(compose):
    text = re.sub(r"#.*", "", (INFRA / "compose.yaml").read_text())
    used = dict(re.findall(r"\$\{(\w+)([^}]*)\}", text))
    known = variables()
    assert set(used) == set(known)
    assert set(SECRETS) <= set(known)
    for name, value in known.items():
        if value:
            assert used[name] == f":-{value}", name
        else:
            assert used[name] == ":?see infra/example.env", name
    for service in compose["services"].values():
        assert "${" not in json.dumps(service.get("command", ""))


def test_inline_files_are_what_the_servers_read(compose):
    configs = {name: entry["content"] for name, entry in compose["configs"].items()}
    databases = re.findall(r"CREATE DATABASE (\w+);", configs["databases"])
    assert sorted(databases) == sorted(DATABASES)
    store = json.loads(re.sub(r"\$\{(\w+)[^}]*\}", r"\1", configs["store"]))
    (identity,) = store["identities"]  # so nobody is let in without a key
    assert identity["credentials"] == [
        {"accessKey": "AWS_ACCESS_KEY_ID", "secretKey": "AWS_SECRET_ACCESS_KEY"}
    ]
    assert "default_permission = READ" in configs["mlflow-users"]


def test_servers_ask_for_passwords_and_may_do_little(compose):
    mlflow, prefect = compose["services"]["mlflow"], compose["services"]["prefect"]
    assert "--app-name basic-auth" in mlflow["command"]
    assert "--workers 1" in mlflow["command"]
    assert prefect["environment"]["PREFECT_SERVER_API_AUTH_STRING"]
    assert "scram-sha-256" in compose["services"]["postgres"]["environment"]["POSTGRES_INITDB_ARGS"]
    for service in (mlflow, prefect, compose["services"]["buckets"]):
        assert service["read_only"] is True
    for name in ("mlflow", "prefect", "buckets", "worker", "worker-gpu"):
        assert compose["services"][name]["cap_drop"] == ["ALL"]
        assert compose["services"][name]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_are_small_and_run_as_nobody_special(name, tmp_path):
    stages = instructions(name, tmp_path)
    users = 0
    for stage, lines in stages.items():
        base = lines[0][1]
        assert base in stages or re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)
        for keyword, value in lines:
            assert keyword in {"FROM", "ENV", "RUN", "COPY", "USER", "WORKDIR", "CMD"}
            if keyword == "RUN" and "pip install" in value:
                assert stage.endswith("packages")  # what it leaves behind is in no image
                for option in ("--require-hashes", "--no-deps", "--no-cache-dir"):
                    assert option in value
            if keyword == "RUN" and "apt-get" in value:
                assert "--no-install-recommends" in value
                assert "rm -rf /var/lib/apt/lists/*" in value
            if keyword == "COPY" and "--from" in value:
                assert re.match(r"--from=(\S+)", value)[1] in stages
            if keyword == "COPY" and "--from" not in value:
                assert value.split()[0] == "requirements.lock"
        if stage in ("servers", "worker"):
            users += 1
            assert [value for keyword, value in lines if keyword == "USER"] == ["10001:10001"]
            last = [keyword for keyword, _ in lines if keyword in ("RUN", "COPY", "USER")]
            assert last[-1] == "USER"
    assert users == (2 if name == "cpu.Dockerfile" else 1)


def test_the_build_is_sent_the_lock_alone():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["*", "!requirements.lock"]


def test_servers_hold_what_mlflow_and_prefect_need_and_no_pytorch(tmp_path):
    kept = filtered("cpu.Dockerfile", "servers.lock", tmp_path)
    assert closure(*SERVERS_NEED) <= set(kept)
    assert not {"torch", "triton", "ray", "nvidia-cublas", "pytest", "mitsuba"} & set(kept)
    assert all("--hash=sha256:" in lines for lines in kept.values())


@pytest.mark.parametrize("name", DOCKERFILES)
def test_workers_hold_what_the_project_needs_and_no_tests(name, tmp_path):
    kept = filtered(name, "worker.lock", tmp_path)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = sum((extras[extra] for extra in extras if extra != "dev"), project["dependencies"])
    gone = closure(*wanted) - set(kept)
    assert gone == ({"triton"} if name == "cpu.Dockerfile" else set())
    assert not {"pytest", "playwright", "ruff", "mypy"} & set(kept)
    assert all("--hash=sha256:" in lines for lines in kept.values())
