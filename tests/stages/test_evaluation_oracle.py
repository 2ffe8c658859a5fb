"""Every shipped protocol against a plain reading of its file, in float64."""

import numpy as np
import pytest
from ruamel.yaml import YAML
from sklearn.linear_model import LinearRegression, QuantileRegressor

from dav2.data.sample import DepthSample
from stages.evaluation_measures import measure_depth
from stages.evaluation_protocols import FOLDER, protocol_names, read_protocol

PARTS = {  # rows and columns, as shares
    "none": (0, 1, 0, 1),
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen_kitti": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "eigen_nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
}


def scene(height, width):
    """Depth from 0.2 to beyond 300 m, with holes and sky, and predictions of both kinds."""
    rng = np.random.default_rng(height)
    depth = np.exp(rng.uniform(np.log(0.2), np.log(330), (height, width))).astype(np.float32)
    sky = np.zeros((height, width), dtype=bool)
    sky[: height // 9] = True
    depth[sky] = np.inf
    valid = rng.random((height, width)) > 0.1
    noise = rng.normal(0, 0.1, (height, width))
    relative = (3 * np.exp(noise) / np.where(sky, 1e3, depth) + 0.4).astype(np.float32)
    metres = (1.7 * np.exp(noise) * np.where(sky, 90, depth)).astype(np.float32)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    sample = DepthSample("s", "d", "c", image, depth, valid, sky, intrinsics=None)
    return sample, relative, metres


def counted(says, depth, valid, sky):
    """Where the protocol compares, read off its file."""
    pixels = valid & np.isfinite(depth) & ~sky & (depth > 0) & (depth >= says["min_depth_m"])
    pixels &= depth <= (says["max_depth_m"] or np.inf)
    seen = np.s_[:, :]
    if says["image_crop"] == "kitti_benchmark":
        left = (depth.shape[1] - 1216) // 2
        seen = np.s_[-352:, left : left + 1216]
    inside = np.zeros_like(pixels)
    height, width = inside[seen].shape
    top, bottom, first, last = PARTS[says["crop"]]
    rows = slice(int(top * height), int(bottom * height))
    columns = slice(int(first * width), int(last * width))
    inside[seen][rows, columns] = True
    pixels &= inside
    if says["max_spread"] is not None:
        pixels &= depth <= says["max_spread"] * np.quantile(depth[pixels], 0.01)
    return pixels


def fitted(kind, x, y):
    """Scale and shift, by scikit-learn where a line is fitted."""
    column = x[:, None]
    match kind:
        case "inverse_depth" | "depth":
            line = LinearRegression().fit(column, y)
        case "inverse_depth_l1" | "depth_l1":
            line = QuantileRegressor(quantile=0.5, alpha=0, solver="highs").fit(column, y)
        case "median":
            return np.median(y) / np.median(x), 0.0
        case "log_depth":
            return np.exp(np.mean(np.log(y) - np.log(x))), 0.0
        case "none":
            return 1.0, 0.0
    return float(line.coef_[0]), float(line.intercept_)


def limited(says, z, farthest):
    """Aligned values as depth within the protocol's limits."""
    nearest = says["min_depth_m"] if says["is_clipped"] else 0.0
    if says["alignment"].startswith("inverse_depth"):
        z = 1 / np.maximum(z, says["floor_inverse_depth"] or 1 / farthest)
    else:
        z = np.maximum(z, 1e-6)
    return np.clip(z, nearest, farthest if says["is_clipped"] else np.inf)


def measured(p, z):
    """The measures as papers state them."""
    e, ratio = np.log(p / z), np.maximum(p / z, z / p)
    return {
        **{f"delta{n}": np.mean(ratio < 1.25**n) for n in (1, 2, 3)},
        "abs_rel": np.mean(np.abs(p - z) / z),
        "abs_rel_inverse": np.mean(np.abs(1 / p - 1 / z) * z),
        "sq_rel": np.mean((p - z) ** 2 / z),
        "rmse": np.sqrt(np.mean((p - z) ** 2)),
        "rmse_log": np.sqrt(np.mean(e**2)),
        "rmse_inverse": 1000 * np.sqrt(np.mean((1 / p - 1 / z) ** 2)),
        "log10": np.mean(np.abs(np.log10(p / z))),
        "silog": 100 * np.std(e),
        "log_bias": np.mean(e),
    }


def expected(says, prediction, sample):
    z, x = sample.depth.astype(np.float64), prediction.astype(np.float64)
    pixels = counted(says, z, sample.valid, sample.sky)
    z, x = z[pixels], x[pixels]
    target = 1 / z if says["alignment"].startswith("inverse_depth") else z
    scale, shift = fitted(says["alignment"], x, target)
    return int(pixels.sum()), measured(
        limited(says, scale * x + shift, says["max_depth_m"] or z.max()), z
    )


@pytest.mark.parametrize("name", protocol_names())
def test_numbers_are_those_of_a_plain_reading_of_the_file(name):
    says = YAML(typ="safe").load(FOLDER / f"{name}.yaml")
    sample, relative, metres = scene(*((376, 1242) if says["image_crop"] != "none" else (37, 53)))
    prediction = relative if says["alignment"].startswith("inverse_depth") else metres
    num_pixels, values = expected(says, prediction, sample)
    found, _, _ = measure_depth(sample, prediction, protocol=read_protocol(name).protocol())
    assert found["num_pixels"] == num_pixels
    # Of the linear program; of 1 / z, which is taken in the truth's float32; of nothing.
    tolerance = {"depth_l1": 1e-5, "inverse_depth": 1e-6}.get(says["alignment"], 1e-9)
    assert {key: found[key] for key in values} == {
        key: pytest.approx(value, rel=tolerance, abs=1e-12) for key, value in values.items()
    }


@pytest.mark.parametrize("change", [{"alignment": "median"}, {"alignment": "log_depth"}])
def test_alignments_that_no_shipped_protocol_uses(change):
    says = YAML(typ="safe").load(FOLDER / "default/outdoor.yaml") | change
    sample, _, metres = scene(37, 53)
    _, values = expected(says, metres, sample)
    protocol = read_protocol("default/outdoor").model_copy(update=change).protocol()
    found, _, _ = measure_depth(sample, metres, protocol=protocol)
    assert found["abs_rel"] == pytest.approx(values["abs_rel"], rel=1e-9)
    assert found["rmse"] == pytest.approx(values["rmse"], rel=1e-9)
