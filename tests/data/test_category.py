"""A data set whose persons are of another category than 1, from reading to the written results."""

import json

from tests.runs import run_test


def test_results_are_of_the_persons_category(people, tiny_config, tmp_path):
    for name in ("person_keypoints_val2017", "val2017_person_detections"):
        folder = "annotations" if name.startswith("person") else "person_detection_results"
        content = json.loads((people / folder / f"{name}.json").read_text())
        for row in content["annotations"] if isinstance(content, dict) else content:
            row["category_id"] = 7
        if isinstance(content, dict):
            content["categories"] = [{"id": 1, "name": "dog"}, content["categories"][0] | {"id": 7}]
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    paths = [tmp_path / "person_keypoints_val2017.json", tmp_path / "val2017_person_detections.json"]
    cfg = tiny_config("DATASET.TEST_ANNOTATIONS", paths[0], "DATASET.TEST_DETECTIONS", paths[1])
    run_test(cfg, None, "keypoints")
    written = list((tmp_path / "run/test").glob("*_results.json"))
    assert len(written) == 1
    for path in written:
        results = json.loads(path.read_text())
        assert {entry["category_id"] for entry in results} == {7}
