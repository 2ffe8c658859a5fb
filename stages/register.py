"""Registers an evaluated model as a version in MLflow's registry, with all it came from.

`python -m stages.register student-vits-pseudo`; not a stage of DVC, since it leaves no file.
docs/registry.md tells what a version carries.
"""

import json
import logging
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from pydantic import PositiveFloat, PositiveInt

from dav2.data.files import write_json
from dav2.data.images import encode_jpeg
from stages.digests import LOCK, dvc_digest
from stages.drift import MEASURED, Reference
from stages.evidence import TABLES, Evidence, gather
from stages.imports import closure
from stages.model_card import results_by_set, write_card
from stages.params import Params, load
from stages.program import run as run_program
from stages.registry import CHALLENGER, CHAMPION, aliases, connect, exclusive, registered_name
from stages.tracking import tracked

SETTINGS = Path("mlflow/serving.yaml")
SERVED_MODEL = "stages.served_model"
IMAGES = "images.json"
"""File of a version: the statistics of the images that it was trained on."""
REGISTERED = Path(".work/registered")
"""Where the version of each model that was registered here is written."""
REQUIREMENTS = (
    "mlflow",
    "jaxtyping",
    "numpy",
    "pandas",
    "pillow",
    "safetensors",
    "timm",
    "torch",
    "torchvision",
)
"""What a served model imports, pinned to what is installed when it is registered."""

logger = logging.getLogger(__name__)


class ServedModelParams(Params):
    """What a served model runs on and takes; mlflow/serving.yaml explains each."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    max_images: PositiveInt
    max_bytes: PositiveInt
    max_pixels: PositiveInt
    max_aspect: PositiveFloat


def main(model: str) -> None:
    """Registers a model of params.yaml; logs and writes down what it became."""
    name, version = register(model)
    write_json({"name": name, "version": version}, REGISTERED / f"{model}.json")
    logger.info("%s version %s is %s", name, version, model)


def register(model: str) -> tuple[str, str]:
    """Returns the registered model and the version of these weights, a new one if there is none.

    Weights that are registered already keep their version; where they were evaluated or judged
    anew, the version gets that evidence. Unless it is champion it becomes challenger.

    Args:
        model: Its name in params.yaml.

    Raises:
        FileNotFoundError: As `stages.evidence.gather`.
        ValueError: Likewise, or mlflow/serving.yaml does not fit.
        TimeoutError: Another process holds the registered model's lock.
    """
    evidence = gather(model)
    settings = load("model", ServedModelParams, SETTINGS)
    name = registered_name(evidence.weights)
    client = connect()
    with exclusive(client, name):
        version = _version_of(client, name, evidence.weights_md5)
        known = client.get_model_version(name, version).tags if version else {}
        if known.get("evidence.md5") != evidence.digest():
            inputs = {"model": evidence.weights, "evaluation": evidence.manifest}
            with tracked("register", settings, inputs=inputs) as run:
                run.log_metrics(_numbers(evidence))
                record_tables(client, run.run_id, evidence.folder)
                client.log_artifact(run.run_id, str(evidence.release), "evidence")
                if not version:
                    version = _create(client, name, evidence, settings, run.run_id)
            for key, value in tags(evidence, run.run_id).items():
                client.set_model_version_tag(name, version, key, value)
        if aliases(client, name).get(CHAMPION) != version:
            client.set_registered_model_alias(name, CHALLENGER, version)
    return name, version


def record_tables(client: Any, run_id: str, folder: Path) -> None:
    """Keeps the tables of an evaluation with a run, for later comparisons."""
    for table in TABLES:
        client.log_artifact(run_id, str(folder / table), "evidence")


def tags(evidence: Evidence, run_id: str) -> dict[str, str]:
    """Returns the tags of a version.

    Args:
        evidence: Of the model.
        run_id: Run that holds the evaluation's tables.
    """
    return {
        "model": evidence.model,
        "weights.path": evidence.weights.as_posix(),
        "weights.md5": evidence.weights_md5,
        "evaluation.hash": evidence.evaluation,
        "evidence.run_id": run_id,
        "dvc.lock.md5": dvc_digest(LOCK),
        "git.commit": _git("rev-parse", "HEAD"),
        "git.has_lock": str(_is_committed(LOCK)).lower(),
        "sources": json.dumps(evidence.sources),
        **{f"dvc.in.{path}": md5 for path, md5 in evidence.inputs.items()},
        **{f"dvc.out.{path}": md5 for path, md5 in evidence.outputs.items()},
        **{f"gate.{gate}": _verdict(passed) for gate, passed in evidence.gates.items()},
        **{f"params.{name}": json.dumps(values) for name, values in evidence.params.items()},
        **{
            f"metrics.{name}": json.dumps(values, sort_keys=True)
            for name, values in {
                **results_by_set(evidence.metrics),
                **({"da2k": evidence.metrics["da2k"]} if "da2k" in evidence.metrics else {}),
            }.items()
        },
        "evidence.md5": evidence.digest(),  # last: who was killed before it registers once more
    }


def _create(
    client: Any, name: str, evidence: Evidence, settings: ServedModelParams, run_id: str
) -> str:
    """Keeps the model with a run and registers it; returns its version."""
    import mlflow

    with tempfile.TemporaryDirectory() as scratch:
        code = _copy_code(Path(scratch) / "code")
        card = write_card(evidence, name, Path(scratch) / "card")
        client.log_artifacts(run_id, str(card.parent), "card")
        artifacts = {"weights": str(evidence.weights), "card": str(card.parent)}
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name=evidence.model,
                python_model=closure([SERVED_MODEL])[SERVED_MODEL],
                code_paths=[str(code / "dav2")],
                artifacts=artifacts | _images(evidence, Path(scratch) / IMAGES),
                signature=_signature(),
                input_example=_example(),
                model_config=settings.model_dump(),
                pip_requirements=[f"{package}=={installed(package)}" for package in REQUIREMENTS],
            )
        # At once with its hash: killed after this, it would be found again and completed.
        mark = {"weights.md5": evidence.weights_md5}
        mlflow.register_model(logged.model_uri, name, tags=mark)
        version = _only_version(client, name, evidence.weights_md5)
        about = f"`{evidence.model}`, weights {evidence.weights_md5}."
        about += f" Card and pictures: files of run {run_id}, folder `card`."
        client.update_model_version(name, version, description=about)
        return version


def _images(evidence: Evidence, path: Path) -> dict[str, str]:
    """Writes the statistics of the training's images; returns the artifact, none without them."""
    for name in evidence.inputs:  # the nearest first: a student's own, not its teacher's
        manifest = Path(name) if name.endswith(".parquet") else Path(name) / "manifest.parquet"
        if manifest == evidence.manifest or not manifest.is_file():
            continue
        if set(MEASURED) & set(pq.read_schema(manifest).names):
            path.write_text(Reference.of_manifest(manifest).as_json(), encoding="utf-8")
            return {"images": str(path)}
    return {}


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        params=ParamSchema([ParamSpec("format", DataType.string, default="png16")]),
    )


def _example() -> Any:
    """Returns a request with one small image, which MLflow keeps beside the model as JSON."""
    import numpy as np
    import pandas as pd

    grey = np.linspace(0, 255, 42 * 56 * 3).reshape(42, 56, 3).astype(np.uint8)
    return pd.DataFrame({"image": [encode_jpeg(grey, quality=90)]})


def _copy_code(folder: Path) -> Path:
    """Copies the modules of `dav2` that the served model imports, with their packages."""
    for path in closure([SERVED_MODEL]).values():
        if path.parts[0] == "dav2":
            for package in [*path.parents][:-1]:
                (folder / package).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(package / "__init__.py", folder / package / "__init__.py")
            shutil.copyfile(path, folder / path)
    return folder


def _version_of(client: Any, name: str, weights_md5: str) -> str:
    """Returns the version with these weights; an empty text if there is none."""
    found = _versions_of(client, name, weights_md5)
    return str(found[0]) if found else ""


def _only_version(client: Any, name: str, weights_md5: str) -> str:
    """Returns the version with these weights, one even if MLflow asked for it twice.

    It does where the server was lost after it had made the version and before it answered.
    """
    first, *further = _versions_of(client, name, weights_md5)
    for version in further:
        client.delete_model_version(name, str(version))
    return str(first)


def _versions_of(client: Any, name: str, weights_md5: str) -> list[int]:
    wanted = f"name = '{name}' and tags.`weights.md5` = '{weights_md5}'"
    return sorted(int(version.version) for version in client.search_model_versions(wanted))


def _numbers(evidence: Evidence) -> dict[str, float]:
    from stages.evaluation_summary import flat

    return flat(evidence.metrics)


def _verdict(is_passed: bool) -> str:
    return "passed" if is_passed else "failed"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout.strip() or "none"


def _is_committed(path: Path) -> bool:
    """Returns whether HEAD holds a file as it is here, so that the commit leads to the data."""
    return _git("rev-parse", f"HEAD:./{path}") == _git("hash-object", str(path))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_program("register", main, *sys.argv[1:])
