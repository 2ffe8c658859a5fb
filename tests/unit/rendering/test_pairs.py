"""Point pairs: far enough apart in depth, and as often upside down as not."""

import numpy as np

from dav2.rendering.pairs import MIN_RATIO, balanced_annotations, draw_pairs

HEIGHT, WIDTH = 40, 60


def ramp():
    """Depth that falls from 10 m in the first row to 1 m in the last."""
    return np.repeat(np.linspace(10, 1, HEIGHT)[:, None], WIDTH, 1).astype(np.float32)


def everywhere():
    return np.ones((HEIGHT, WIDTH), dtype=bool)


def boxes():
    """A near box above and one below, on a far wall."""
    depth = np.full((HEIGHT, WIDTH), 5.0, dtype=np.float32)
    depth[4:14, 10:30] = 1.0
    depth[28:36, 10:30] = 2.0
    return depth


def test_a_ramp_has_only_pairs_whose_lower_point_is_closer():
    found = draw_pairs(ramp(), everywhere(), np.random.default_rng(0))
    assert found["upper"] == []
    assert len(found["lower"]) == 3


def test_every_pair_names_the_closer_point_first_with_the_ratio_kept():
    depth = boxes()
    found = draw_pairs(depth, everywhere(), np.random.default_rng(0))
    assert len(found["upper"]) == len(found["lower"]) == 3
    for kind, sign in (("upper", 1), ("lower", -1)):
        for near, far in found[kind]:
            assert depth[tuple(far)] > MIN_RATIO * depth[tuple(near)]
            assert sign * (far[0] - near[0]) > 0


def test_points_keep_away_from_edges_and_from_what_is_not_usable():
    depth, usable = boxes(), everywhere()
    usable[:, 40:] = False
    found = draw_pairs(depth, usable, np.random.default_rng(0))
    for near, far in found["upper"] + found["lower"]:
        for row, column in (near, far):
            assert column < 40
            assert np.ptp(depth[row - 1 : row + 2, max(column - 1, 0) : column + 2]) == 0


def test_the_sky_is_never_a_point():
    depth = boxes()
    depth[depth == 5] = np.inf
    found = draw_pairs(depth, np.isfinite(depth), np.random.default_rng(0))
    for near, far in found["upper"] + found["lower"]:
        assert np.isfinite(depth[tuple(near)])
        assert np.isfinite(depth[tuple(far)])


def test_a_thin_rod_may_be_the_closer_point_only_if_asked():
    depth = np.full((HEIGHT, WIDTH), 5.0, dtype=np.float32)
    depth[:, 30] = 1.0
    rng = np.random.default_rng(0)
    assert draw_pairs(depth, everywhere(), rng)["upper"] == []
    found = draw_pairs(depth, everywhere(), rng, thin=True)
    assert found["upper"]
    assert all(near[1] == 30 for near, _ in found["upper"])


def test_a_flat_wall_gives_no_pair():
    depth = np.full((HEIGHT, WIDTH), 3.0, dtype=np.float32)
    assert draw_pairs(depth, everywhere(), np.random.default_rng(0)) == {"upper": [], "lower": []}


def test_each_scenario_has_as_many_pairs_of_one_kind_as_of_the_other():
    upper, lower = [[1, 5], [9, 5]], [[9, 5], [1, 5]]
    candidates = {
        "images/object/a.jpg": {"upper": [upper] * 3, "lower": [lower] * 3},
        "images/object/b.jpg": {"upper": [], "lower": [lower] * 3},
        "images/object/c.jpg": {"upper": [], "lower": [lower] * 3},
        "images/aerial/d.jpg": {"upper": [upper], "lower": []},
    }
    annotations = balanced_annotations(candidates, pairs_per_image=2)
    # Scenario object: three of each kind, as many as there are images; aerial cannot be balanced.
    assert sorted(annotations) == [f"images/object/{name}.jpg" for name in "abc"]
    pairs = [pair for found in annotations.values() for pair in found]
    assert all(pair["closer_point"] == "point1" for pair in pairs)
    assert sum(pair["point1"][0] < pair["point2"][0] for pair in pairs) == 3
    assert len(pairs) == 6
