import numpy as np
import pytest

from psa_pose.metrics.coco_ap import STATS
from psa_pose.study.run import _row


def test_a_difference_is_the_block_minus_the_first():
    generator = np.random.default_rng(0)
    base = generator.normal(0.5, 0.01, (200, len(STATS)))
    row = _row("psa_p", "detector", [62.0, 61.0, 63.0], base + 0.02, [60.0, 60.0, 60.0], base)
    assert row.images is not None
    assert row.images.value == pytest.approx(2.0)
    assert [row.images.low, row.images.high] == pytest.approx([2.0, 2.0])
    assert row.seeds == pytest.approx(1.0)
