# syntax=docker/dockerfile:1
# The worker on NVIDIA GPUs, from requirements.lock with its hashes. PyTorch's packages bring CUDA's
# libraries, so that the image needs the driver of the machine alone. Build in the project's root:
#   docker build --file infra/cuda.Dockerfile --tag dav2-worker-cuda .
FROM python:3.11.13-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/venv/bin:$PATH \
    DO_NOT_TRACK=true \
    DVC_NO_ANALYTICS=1 \
    GX_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    RAY_USAGE_STATS_ENABLED=0

FROM base AS packages
COPY requirements.lock /locks/
# Not what only tests and the editor need.
ENV tests="dockerfile-parse|hypothesis|import-linter|librt|mypy|mypy-extensions|playwright|pre-commit|pytest.*|ruff|types-.*|pandas-stubs|webdataset"
RUN awk -v drop="^(${tests})==" '/^[a-z]/ {keep = $0 !~ drop} keep' /locks/requirements.lock > /locks/worker.lock \
    && python -m venv /opt/venv \
    && pip install --no-deps --require-hashes --no-cache-dir --no-compile --disable-pip-version-check -r /locks/worker.lock

FROM base AS worker
# A compiler, which torch.compile needs at run time (`compile: true`).
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /project
COPY --from=packages /opt/venv /opt/venv
RUN useradd --create-home --uid 10001 dav2
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /project
CMD ["prefect", "worker", "start", "--pool", "local"]
