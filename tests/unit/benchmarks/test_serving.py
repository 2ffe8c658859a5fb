import math

import pytest

from benchmarks.serving import quantile


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5.0), (0.95, 10.0), (0.1, 1.0)])
def test_a_quantile_is_a_measured_value(share, expected):
    assert quantile([float(i) for i in range(10, 0, -1)], share) == expected
    assert math.isnan(quantile([], share))
