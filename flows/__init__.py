"""When and where: Prefect flows that drive `dvc repro`."""

import os

# Prefect reports its use as soon as it is imported, so this must stand before any flow.
os.environ.setdefault("DO_NOT_TRACK", "true")
