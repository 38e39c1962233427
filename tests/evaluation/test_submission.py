import io
import json
import zipfile

import numpy as np
import pytest

from psa_pose.errors import DataError
from psa_pose.evaluation.submission import _check_submission, _submission_entries, _submission_name, _submission_zip


def result(image_id=5, **changes):
    return {"image_id": image_id, "category_id": 1, "keypoints": [1.234, 5.678, 0.9] * 17, "score": 0.123456} | changes


def test_the_file_is_what_the_server_wants():
    entries = _submission_entries([result(score=1 - i / 100) for i in range(25)] + [result(6)])
    _check_submission(entries, [5, 6, 7], 17)
    assert len(entries) == 21
    assert entries[0]["keypoints"][:6] == [1.2, 5.7, 1, 1.2, 5.7, 1]
    name = _submission_name("test-dev2017", "psa-p")
    content = _submission_zip(name, entries)
    assert content == _submission_zip(name, entries)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["person_keypoints_test-dev2017_psa-p_results.json"]
        assert json.loads(archive.read(archive.namelist()[0])) == entries


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "at least one person"),
        ([result(9)], "image 9, which the split does not have"),
        ([result(category_id=2)], "category 2"),
        ([result(keypoints=[1.0] * 50)], "51 keypoint numbers"),
        ([result(score=float("nan"))], "not finite"),
        ([result(extra=1)], "exactly the fields"),
        ([result()] * 21, "only 20 count"),
    ],
)
def test_what_the_server_would_refuse_is_found(entries, words):
    with pytest.raises(DataError, match=words):
        _check_submission(entries, [5], 17)


def test_a_name_that_could_be_refused():
    with pytest.raises(DataError, match="letters, digits and hyphens"):
        _submission_name("test-dev2017", "my model")


def test_rounding_is_to_a_tenth():
    entry = _submission_entries([result(keypoints=np.linspace(0, 99.99, 51).tolist())])[0]
    assert all(round(v, 1) == v for v in entry["keypoints"])
