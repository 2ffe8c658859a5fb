"""The model as MLflow loads and serves it: image bytes in, depth as 16-bit PNG or numbers out.

MLflow keeps this file, the modules of `dav2` that it imports and the weights (safetensors) in the
model's folder and runs it there: no pickle, and nothing else of this project is needed.

Axes: H height, W width (pixels).
"""

import base64
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from dav2.data.images import EncodedImage
from dav2.labeling.codec import encode_label
from dav2.models.checkpoints import load
from dav2.models.device import chosen_device
from dav2.models.inference import prepare
from dav2.predict import predict

FORMATS = ("png16", "array")


class DepthModel(PythonModel):
    """Depth of photographs.

    What it may cost is written in the model's configuration (`mlflow/serving.yaml` when it was
    registered; `mlflow.pyfunc.load_model(..., model_config=...)` overrides it). One request is
    computed at a time, so that memory stays that of one.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the weights."""
        self._limits: dict[str, Any] = context.model_config
        self._turn = threading.Lock()
        self._network, metadata = load(Path(context.artifacts["weights"]))
        self._short_side_px = int(
            metadata.get("short_side_px", self._network.encoder.config.native_px)
        )
        self._preparation: Any = "antialiased" if "short_side_px" in metadata else "authors"
        device = chosen_device(self._limits["device"], where="serving: device")
        prepare(self._network, device=device, precision=self._limits["precision"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Returns what is asked for of each image.

        Args:
            context: Unused; what it holds was read by `load_context`.
            model_input: Column `image`: bytes of JPEG, PNG or WebP files.
            params: `format`: `png16` (16-bit PNG as base64) or `array` (rows of numbers).

        Returns:
            For each image `height`, `width`, `unit` (`metres`, or `relative`: inverse depth up to
            scale and shift, higher is closer), `minimum`, `maximum`, and `depth_png`, whose codes
            0 to 65535 are the values from minimum to maximum, or `depth`.

        Raises:
            MlflowException: As an error of the client, with one line, if a limit is exceeded or an
                image is none, damaged or truncated.
        """
        kind = (params or {}).get("format", FORMATS[0])
        images = list(model_input["image"])
        if kind not in FORMATS:
            raise _refused(f"format: expected one of {', '.join(FORMATS)}, got {kind!r}")
        if not 0 < len(images) <= self._limits["max_images"]:
            limit = self._limits["max_images"]
            raise _refused(f"request: expected 1 to {limit} images, got {len(images)}")
        with self._turn:
            return [self._one(data, f"image {i}", kind) for i, data in enumerate(images)]

    def _one(self, data: Any, where: str, kind: str) -> dict[str, Any]:
        limits = self._limits
        if not isinstance(data, bytes) or len(data) > limits["max_bytes"]:
            got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
            raise _refused(f"{where}: expected at most {limits['max_bytes']} bytes, got {got}")
        try:
            encoded = EncodedImage(data, max_pixels=limits["max_pixels"], where=where)
            header = encoded.header()
            sides = sorted((header.height, header.width))
            if sides[1] > limits["max_aspect"] * sides[0]:
                raise ValueError(
                    f"{where}: expected sides of at most {limits['max_aspect']}:1, "
                    f"got {header.width} x {header.height}"
                )
            image = encoded.decode()
        except ValueError as error:
            raise _refused(str(error)) from None
        (values,) = predict(
            self._network,
            [image],
            short_side_px=self._short_side_px,
            preparation=self._preparation,
        )
        return self._answer(values, kind)

    def _answer(self, values: Float32[np.ndarray, "H W"], kind: str) -> dict[str, Any]:
        label = encode_label(values)
        answer: dict[str, Any] = {
            "height": values.shape[0],
            "width": values.shape[1],
            "unit": "relative" if self._network.config.max_depth_m is None else "metres",
            "minimum": label.minimum,
            "maximum": label.maximum,
        }
        if kind == "array":
            return answer | {"depth": values.tolist()}
        return answer | {"depth_png": base64.b64encode(label.data).decode("ascii")}


def _refused(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


set_model(DepthModel())  # how MLflow finds the model of a file
