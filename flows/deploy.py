"""Puts all that prefect.yaml describes on a Prefect server; a second time changes nothing.

`python -m flows.deploy` needs PREFECT_API_URL, and PREFECT_API_AUTH_STRING where the server asks.
"""

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from ruamel.yaml import YAML

from flows.notify import LogNotification

FILE = Path("prefect.yaml")
ALARMS = "alarms"
"""Name of the block that writes alarms to the log."""

logger = logging.getLogger(__name__)


def deploy(alarm: str | None = None) -> None:
    """Makes pools, queues, limits, deployments, the block of alarms and automations, in this order.

    Args:
        alarm: Notification block as `type/name` through which the server itself sends alarms; None
            for the flow `notify`, which writes them to its log.

    Raises:
        ValueError: The block does not exist.
        RuntimeError: Prefect refuses a deployment.
    """
    wanted = YAML(typ="safe").load(FILE)["server"]
    with get_client(sync_client=True) as client:
        for pool in wanted["work_pools"]:
            _make_pool(client, pool)
        for name, limit in wanted["concurrency_limits"].items():
            client.upsert_global_concurrency_limit_by_name(name, limit)
            logger.info("concurrency limit %s: %d", name, limit)
        _make_deployments()
        action = _alarm_action(client, alarm)
        for automation in wanted["automations"]:
            _make_automation(client, with_alarm(automation, action))


def with_alarm(automation: Mapping[str, Any], action: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an automation with its actions of type `alarm` as ones that Prefect knows.

    Args:
        automation: As prefect.yaml has it.
        action: What sends an alarm; where it takes parameters, they become subject and body.
    """
    actions = []
    for wanted in automation["actions"]:
        if wanted["type"] != "alarm":
            actions.append(wanted)
            continue
        texts = {part: wanted[part] for part in ("subject", "body")}
        if action["type"] == "run-deployment":
            templates = {
                part: {"__prefect_kind": "jinja", "template": text} for part, text in texts.items()
            }
            actions.append({**action, "parameters": templates})
        else:
            actions.append({**action, **texts})
    return {**automation, "actions": actions}


def _make_pool(client: SyncPrefectClient, pool: Mapping[str, Any]) -> None:
    name = pool["name"]
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=pool["type"]))
    for queue in pool["work_queues"]:
        try:
            found = client.read_work_queue_by_name(queue["name"], work_pool_name=name)
            client.update_work_queue(found.id, priority=queue["priority"])
        except ObjectNotFound:
            client.create_work_queue(queue["name"], priority=queue["priority"], work_pool_name=name)
        logger.info("work queue %s/%s", name, queue["name"])


def _make_deployments() -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    environment = {**os.environ, "PWD": str(Path.cwd())}  # prefect.yaml names it
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise RuntimeError(f"prefect deploy: expected exit status 0, got {done.returncode}: {said}")
    for deployment in YAML(typ="safe").load(FILE)["deployments"]:
        logger.info("deployment %s", deployment["name"])


def _alarm_action(client: SyncPrefectClient, alarm: str | None) -> dict[str, Any]:
    if alarm is None:
        LogNotification().save(ALARMS, overwrite=True)
        deployment = client.read_deployment_by_name("notify/notify")
        return {
            "type": "run-deployment",
            "source": "selected",
            "deployment_id": str(deployment.id),
        }
    kind, _, name = alarm.partition("/")
    try:
        block = client.read_block_document_by_name(name, kind)
    except ObjectNotFound:
        raise ValueError(f"{alarm}: expected a block of this type and name, got none") from None
    return {"type": "send-notification", "block_document_id": str(block.id)}


def _make_automation(client: SyncPrefectClient, wanted: Mapping[str, Any]) -> None:
    automation = AutomationCore.model_validate(wanted)
    found = client.read_automations_by_name(automation.name)
    if found:
        client.update_automation(found[0].id, automation)
    else:
        client.create_automation(automation)
    logger.info("automation %s", automation.name)


def main(arguments: Sequence[str]) -> None:
    """Deploys as the command line says.

    Raises:
        SystemExit: With one line, if there is no server, no such block or Prefect refuses.
    """
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy", description="Put what prefect.yaml describes on a server."
    )
    parser.add_argument(
        "--alarm", metavar="TYPE/NAME", help="block for alarms, as slack-webhook/team; default: log"
    )
    options = parser.parse_args(arguments)
    if not os.environ.get("PREFECT_API_URL"):
        raise SystemExit("PREFECT_API_URL: expected the address of a Prefect server, got none")
    try:
        deploy(options.alarm)
    except (ValueError, RuntimeError, httpx.HTTPError) as error:
        raise SystemExit(str(error).partition("\n")[0]) from None


if __name__ == "__main__":
    # Forced, since Prefect has set up logging already.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    main(sys.argv[1:])
