# syntax=docker/dockerfile:1
# Images without a GPU, from requirements.lock with its hashes. Build in the project's root:
#   docker build --file infra/cpu.Dockerfile --target servers --tag dav2-servers .
#   docker build --file infra/cpu.Dockerfile --target worker --tag dav2-worker .
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

# Neither holds what only tests and the editor need; the servers compute nothing either.
FROM base AS locks
COPY requirements.lock /locks/
WORKDIR /locks
ENV tests="dockerfile-parse|hypothesis|import-linter|librt|mypy|mypy-extensions|playwright|pre-commit|pytest.*|ruff|types-.*|pandas-stubs|webdataset" \
    compute="antlr4-python3-runtime|av|cuda-.*|drjit|great-expectations|hydra-core|imagecodecs|lightning|lmdb|mitsuba.*|ml-dtypes|moto|nanobind-backend|nvidia-.*|omegaconf|onnx.*|openexr|pytorch-lightning|ray|safetensors|timm|tokenizers|torch.*|transformers|triton"
RUN awk -v drop="^(${tests}|triton)==" '/^[a-z]/ {keep = $0 !~ drop} keep' requirements.lock > worker.lock
RUN awk -v drop="^(${tests}|${compute})==" '/^[a-z]/ {keep = $0 !~ drop} keep' requirements.lock > servers.lock

FROM base AS servers-packages
COPY --from=locks /locks/servers.lock /locks/
RUN python -m venv /opt/venv \
    && pip install --no-deps --require-hashes --no-cache-dir --no-compile --disable-pip-version-check -r /locks/servers.lock

FROM base AS worker-packages
COPY --from=locks /locks/worker.lock /locks/
RUN python -m venv /opt/venv \
    && pip install --no-deps --require-hashes --no-cache-dir --no-compile --disable-pip-version-check -r /locks/worker.lock

# MLflow's and Prefect's servers.
FROM base AS servers
COPY --from=servers-packages /opt/venv /opt/venv
RUN useradd --create-home --uid 10001 dav2
USER 10001:10001
WORKDIR /home/dav2

# Runs the stages of a project's folder, which is mounted at /project.
FROM base AS worker
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /project
COPY --from=worker-packages /opt/venv /opt/venv
RUN useradd --create-home --uid 10001 dav2
USER 10001:10001
WORKDIR /project
CMD ["prefect", "worker", "start", "--pool", "local"]
