#!/bin/sh
# The servers of a team on this machine, without containers: PostgreSQL, Prefect, MLflow.
#   infra/local.sh secrets > secrets.env; . ./secrets.env
#   infra/local.sh start [folder]      also: stop, status, environment, restart <server>
# Options: infra/local.sh --help
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd) || exit
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
PYTHONPATH=$root exec "$python" -m flows.servers "$@"
