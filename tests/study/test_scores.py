import numpy as np
import pytest

from psa_pose.errors import DataError
from psa_pose.study.page import study_table
from psa_pose.study.scores import RunScores, compare_blocks, difference


def run(value, samples):
    return RunScores({"AP": value}, {"AP": np.asarray(samples, float)})


def noise(seed):
    return np.random.default_rng(seed).normal(0, 1, 1000)


def test_a_difference_is_paired_by_image_and_by_seed():
    # The images' noise is common to both blocks, and that of a seed too: only the gain is left.
    first = [run(60, 60 + noise(0)), run(50, 50 + noise(0))]
    second = [run(62, 62 + noise(0)), run(52, 52 + noise(0))]
    moved = difference(first, second, "AP")
    assert (moved.images.value, moved.seeds) == (2.0, 0.0)
    assert [moved.images.low, moved.images.high, moved.both.low, moved.both.high] == pytest.approx([2.0] * 4)
    assert moved.both.p_value == pytest.approx(2 / 1001)


def test_the_interval_over_seeds_holds_what_seeds_differ_in():
    first = [run(60, 60 + noise(0)) for _ in range(3)]
    second = [run(60 + gain, 60 + gain + noise(0)) for gain in (-3, 0, 6)]
    moved = difference(first, second, "AP")
    assert moved.images.value == pytest.approx(1.0)
    assert [moved.images.low, moved.images.high] == pytest.approx([1.0, 1.0])
    # 27 equally likely draws of three seeds: (-3, -3, -3) is one of them, and so is (6, 6, 6).
    assert [moved.both.low, moved.both.high] == pytest.approx([-3, 6])
    assert moved.seeds == pytest.approx(np.std([-3, 0, 6], ddof=1))


def test_more_seeds_say_more():
    first = [run(60, 60 + noise(0)) for _ in range(8)]
    second = [run(60 + gain, 60 + gain + noise(0)) for gain in (-3, 3) * 4]
    moved = difference(first, second, "AP")
    # Of eight draws, 3 or -3 with equal chance, the mean leaves (-2.25, 2.25) in 7 % and (-1.5, 1.5) in 29 % of cases.
    assert -2.3 < moved.both.low < -1.4
    assert 1.4 < moved.both.high < 2.3


def test_runs_that_did_not_train_are_counted_and_named():
    runs = {
        "none": [{"detector": run(60, [60.0] * 8)}, {"detector": run(62, [62.0] * 8)}],
        "non_local": [{"detector": run(61, [61.0] * 8)}, {"detector": run(20, [20.0] * 8)}],
    }
    blocks = compare_blocks(runs)
    assert [block.failed for block in blocks] == [0, 1]
    header, lines = study_table(blocks, {})
    assert [line[header.index("failed")] for line in lines] == ["0 of 2", "1 of 2"]
    assert lines[0][1:4] == ["61.0 ± 1.4", "-", "-"]
    assert lines[1][2] == "-20.5 ± 30.4"


def test_blocks_of_other_seeds_are_refused():
    one = {"detector": run(60, [60.0])}
    with pytest.raises(DataError, match="'psa_p' was not tested with the seeds and boxes of the first"):
        compare_blocks({"none": [one, one], "psa_p": [one]})
    with pytest.raises(DataError, match="'psa_p' was not tested"):
        compare_blocks({"none": [one], "psa_p": [{"ground_truth": run(60, [60.0])}]})
