"""stream: everything, in order, concurrently; what is broken is told, what fails is raised, nothing is left behind."""

import threading
import time

import numpy as np
import pytest

from psa_pose.errors import DataError
from psa_pose.inference.stream import stream
from psa_pose.media.video import open_camera, open_video, read_camera, read_frames

# Of conftest.py's video.
FRAMES, BROKEN = 12, 5


def pictures(number: int) -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(0, 256, (60 + n, 50, 3), dtype=np.uint8) for n in range(number)]


def boxes_of(number: int, frame: np.ndarray):
    """None, one, two, none, one..., the first of them another one in every frame."""
    return np.array([[number, 2, 30, 40], [5, 5, 20, 50]], float)[: number % 3], None


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("at_once", [1, 3])
def test_all_frames_come_in_order_with_the_people_of_a_call(estimator, at_once):
    frames = pictures(11)
    seen = list(stream(estimator, iter(frames), boxes_of, drawn=0.2, heatmaps=True, batch_frames=2, at_once=at_once))
    assert [one.number for one in seen] == list(range(11))
    for number, frame, people, drawn, problem in seen:
        assert frame is frames[number]
        assert problem == ""
        expected = estimator(frame, *boxes_of(number, frame))
        assert len(people) == len(expected) == number % 3
        for person, alone in zip(people, expected, strict=True):
            assert person.box.tolist() == alone.box.tolist()
            # Another batch rounds otherwise; an untrained map may answer a rounding with another subpixel step.
            assert np.median(np.abs(person.keypoints - alone.keypoints)) < 1e-3
            assert person.heatmaps is not None
        assert drawn.shape == frame.shape
        assert np.array_equal(drawn, frame) == (not people)


def test_without_boxes_a_frame_is_one_person_and_nothing_is_drawn_unasked(estimator):
    (seen,) = stream(estimator, pictures(1))
    assert [person.box.tolist() for person in seen.people] == [[0, 0, 50, 60]]
    assert seen.drawn is None


def test_what_is_broken_is_told_and_the_others_keep_their_people(estimator, tmp_path, people):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    good = pictures(3)
    path = min((people / "val2017").iterdir())
    frames = [good[0], None, good[1], DataError("no signal"), tmp_path / "torn.jpg", path, good[2], good[2]]

    def boxes(number: int, frame: np.ndarray):
        if number == 7:
            raise DataError("no detector")
        return [[900, 900, 5, 5]] if number == 2 else [[5, 5, 30, 40]], None

    called = []

    def refine(number, found):
        called.append(number)
        return found

    seen = list(stream(estimator, frames, boxes, refine=refine, drawn=0.2, batch_frames=8))
    assert [one.number for one in seen] == list(range(8))
    assert [len(one.people) for one in seen] == [1, 0, 0, 0, 0, 1, 1, 0]
    words = ["", "decoded", "is not on the image", "no signal", "torn.jpg", "", "", "no detector"]
    assert all(word in one.problem and bool(word) == bool(one.problem) for word, one in zip(words, seen, strict=True))
    assert called == [0, 5, 6]
    # A frame that can be shown is shown.
    assert [one.drawn is None for one in seen] == [False, True, False, True, True, False, False, False]


@pytest.mark.parametrize("wrong", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)), 7])
def test_what_is_no_frame_is_told(estimator, wrong):
    seen = list(stream(estimator, [pictures(1)[0], wrong], drawn=0.2))
    assert [bool(one.problem) for one in seen] == [False, True]
    assert "give (H, W, 3) uint8 RGB pixels" in seen[1].problem


def failing_source():
    yield from pictures(3)
    raise RuntimeError("source")


def failing_boxes(number, frame):
    if number == 3:
        raise RuntimeError("boxes")
    return None, None


def failing_refine(number, found):
    if number == 3:
        raise RuntimeError("refine")
    return found


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize(
    ("frames", "options"),
    [(failing_source, {}), (None, {"boxes": failing_boxes}), (None, {"refine": failing_refine})],
)
def test_the_error_of_a_stage_is_raised_here_after_the_frames_before_it(estimator, frames, options, at_once):
    seen = []
    word = next(iter(options), "source")
    with pytest.raises(RuntimeError, match=word):  # noqa: PT012
        for one in stream(estimator, frames() if frames else pictures(9), drawn=0.2, at_once=at_once, **options):
            seen.append(one.number)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("at_once", [1, 2])
def test_closed_early_it_closes_its_source_and_holds_few_frames(estimator, at_once):
    taken, closed = [], []

    def source():
        try:
            for number in range(10_000):
                taken.append(number)
                yield pictures(1)[0]
        finally:
            closed.append(True)

    running = stream(estimator, source(), boxes_of, drawn=0.2, batch_frames=4, at_once=at_once)
    assert not taken
    next(running)
    time.sleep(0.3)
    assert len(taken) < 30
    running.close()
    assert closed
    assert list(running) == []


def test_the_next_frame_is_read_while_boxes_are_still_looked_for(estimator):
    read = threading.Event()

    def source():
        yield from pictures(1)
        read.set()
        yield from pictures(1)

    def boxes(number, frame):
        assert read.wait(20)
        return None, None

    assert len(list(stream(estimator, source(), boxes))) == 2


def test_live_frames_are_dropped_where_nobody_has_time_and_the_newest_is_seen(estimator):
    frames, ready = 40, threading.Event()

    def source():
        for _ in range(frames):
            yield pictures(1)[0]
        ready.set()

    def boxes(number, frame):
        assert ready.wait(20)
        return None, None

    seen = [one.number for one in stream(estimator, source(), boxes, live=True)]
    assert seen == sorted(set(seen))
    assert seen[-1] == frames - 1
    assert len(seen) < 6


def test_a_video_by_its_path_loses_nothing_by_a_broken_frame(estimator, spoiled):
    seen = list(stream(estimator, str(spoiled)))
    assert [one.number for one in seen] == list(range(FRAMES))
    for one in seen:
        assert (one.frame is None) == bool(one.problem) == (one.number == BROKEN)
        assert len(one.people) == (one.number != BROKEN)
        assert one.frame is None or abs(one.frame.mean() - one.number * 20) < 4


def test_a_camera_gives_what_a_video_gives_until_it_ends(video):
    # OpenCV opens the address of a stream, here a file, as it opens a camera.
    found = list(read_camera(open_camera(str(video))))
    expected = list(read_frames(open_video(video)))
    # The first frame was taken to see whether the camera gives any.
    assert len(found) == FRAMES - 1
    assert all(np.array_equal(a, b) for a, b in zip(found, expected[1:], strict=True))


def test_what_cannot_be_opened_is_told_at_once(estimator, tmp_path):
    with pytest.raises(DataError, match=r"camera 97 cannot be opened; check that .* or try another number"):
        stream(estimator, 97)
    with pytest.raises(DataError, match="no frame that OpenCV can decode"):
        stream(estimator, tmp_path / "none.mp4")
    with pytest.raises(DataError, match="batch_frames is 0"):
        stream(estimator, [], batch_frames=0)
    with pytest.raises(DataError, match="at_once is 0"):
        stream(estimator, [], at_once=0)
