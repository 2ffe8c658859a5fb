"""When and where: Prefect flows that drive `dvc repro`."""
