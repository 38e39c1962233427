"""tools/detect.py: the file it writes, and the person AP against pycocotools used by hand."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models import get_model

from psa_pose.dataset_tools.detect_people import BatchDetector, detect_people, format_ap, read_listed
from psa_pose.errors import DataError
from psa_pose.inference.detector import DETECTOR
from psa_pose.metrics.pycocotools_check import PersonAP, person_ap
from tests.commands import run_here

SCRIPT = Path(__file__).parents[2] / "tools/detect.py"
PERSONS = "annotations/person_keypoints_val2017.json"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of the detector's layout that takes many things for persons."""
    torch.manual_seed(0)
    state = get_model(DETECTOR, weights=None, weights_backbone=None).state_dict()
    state["roi_heads.box_predictor.cls_score.bias"][1] += 4
    path = tmp_path_factory.mktemp("detector") / "weights.pth"
    torch.save(state, path)
    return path


def run(*words):
    return run_here(SCRIPT, *words)


def by_hand(annotations, detections):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
        evaluation.params.catIds = [1]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:3].tolist()


def as_detections(truth):
    """The annotated boxes, as if a detector had found them."""
    return [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 1.0}
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]


def scored(truth, detections, folder):
    for name, content in (("truth.json", truth), ("found.json", detections)):
        (folder / name).write_text(json.dumps(content))
    return person_ap(read_listed(folder / "truth.json"), folder / "found.json")


def test_person_ap_is_pycocotools_on_photographs(coco_mini):
    found = coco_mini / "person_detection_results/simulated_val2017_person_detections.json"
    ap = person_ap(read_listed(coco_mini / PERSONS), found)
    assert [ap.ap, ap.ap50, ap.ap75] == by_hand(coco_mini / PERSONS, found)
    assert 0.3 < ap.ap < ap.ap75 < ap.ap50 < 1
    assert ap.images == 45


def test_annotated_boxes_have_an_ap_of_100_and_crowds_do_not_count(people, tmp_path):
    truth = json.loads((people / PERSONS).read_text())
    exact = scored(truth, as_detections(truth), tmp_path)
    assert (exact.ap, exact.ap50, exact.ap75) == (1.0, 1.0, 1.0)
    # A box inside a crowd is no false alarm; the same box without the crowd is one.
    picture = truth["images"][0]
    corner = {"image_id": picture["id"], "category_id": 1, "bbox": [0, 0, picture["width"], picture["height"]]}
    crowd = {**truth["annotations"][0], **corner, "id": 10**6, "iscrowd": 1, "area": 30000.0, "segmentation": []}
    extra = [{**corner, "bbox": [1, 1, 20, 20], "score": 2.0}]
    inside = scored({**truth, "annotations": [*truth["annotations"], crowd]}, as_detections(truth) + extra, tmp_path)
    assert inside.ap == 1.0
    assert scored(truth, as_detections(truth) + extra, tmp_path).ap < 1.0


def test_other_categories_ids_of_zero_and_missing_persons(people, tmp_path):
    truth = json.loads((people / PERSONS).read_text())
    boxes = as_detections(truth)
    # pycocotools by itself would not match an annotation with id 0.
    first = truth["annotations"][0] | {"id": 0}
    zero = {**truth, "annotations": [first, *truth["annotations"][1:]]}
    dogs = [box | {"category_id": 18, "score": 9.0, "bbox": [0, 0, 5, 5]} for box in boxes]
    assert scored(zero, boxes + dogs, tmp_path).ap == 1.0
    assert scored(truth, [], tmp_path) == PersonAP(0, 8, 0.0, 0.0, 0.0)
    half = scored(truth, boxes[: len(boxes) // 2], tmp_path)
    assert 0.3 < half.ap < 0.7
    assert "published" not in format_ap(half, Path("f.json"))
    assert format_ap(half, Path("f.json")).splitlines()[2].split()[-3:] == ["56.4", "-", "-"]
    with pytest.raises(DataError, match="no annotated person"):
        scored({**truth, "annotations": []}, boxes, tmp_path)


def test_the_script_writes_a_file_that_the_evaluation_reads(people, weights, tmp_path):
    out, annotations = tmp_path / "new/boxes.json", tmp_path / "two.json"
    truth = json.loads((people / PERSONS).read_text())
    truth["images"] = truth["images"][:2]
    known = {image["id"]: image for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in known]
    annotations.write_text(json.dumps(truth))
    words = ["--images", people / "val2017", "--annotations", annotations, "--detector-weights", weights]
    done = run(*words, "--out", out, "--batch", 2, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    entries = json.loads(out.read_text())
    assert (
        done.stdout.splitlines()[-1]
        == f"{len(entries):,} person boxes are in {out}; give it as DATASET.TEST_DETECTIONS"
    )
    assert "COCO_val2017_detections_AP_H_56_person.json on val2017" in done.stdout
    assert len(entries) > 20
    order = [entry["image_id"] for entry in entries]
    assert order == sorted(order)
    assert set(order) == known.keys()
    for entry in entries:
        assert entry.keys() == {"image_id", "category_id", "bbox", "score"}
        assert entry["category_id"] == 1
        x, y, w, h = entry["bbox"]
        image = known[entry["image_id"]]
        assert x >= 0
        assert y >= 0
        assert x + w <= image["width"] + 0.01
        assert y + h <= image["height"] + 0.01
        assert min(w, h) > 0
        assert 0.05 <= entry["score"] <= 1
    assert done.stdout.startswith(format_ap(person_ap(read_listed(annotations), out), out))


def test_a_batch_finds_what_single_pictures_give(people, weights):
    detector = BatchDetector.from_torchvision(torch.device("cpu"), weights, 0.05)
    image = np.random.default_rng(0).integers(0, 255, (100, 120, 3), dtype=np.uint8)
    single, batch = detector(image), detector.batch([image, image[:, ::-1].copy()])
    assert len(single[0]) > 0
    # Pictures of one size need no padding.
    np.testing.assert_allclose(batch[0][0], single[0], atol=1e-2)
    np.testing.assert_allclose(batch[0][1], single[1], atol=1e-5)


def test_a_broken_image_leaves_no_file(people, weights, tmp_path):
    (tmp_path / "images").mkdir()
    listed = read_listed(people / PERSONS)
    detector = BatchDetector.from_torchvision(torch.device("cpu"), weights)
    with pytest.raises(DataError, match="cannot be read"):
        detect_people(detector, listed, tmp_path / "images", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_images_without_annotations_get_boxes_and_no_ap(people, weights, tmp_path):
    truth = json.loads((people / PERSONS).read_text())
    info = tmp_path / "image_info_test-dev2017.json"
    info.write_text(json.dumps({"images": truth["images"][:1], "categories": truth["categories"]}))
    words = ["--images", people / "val2017", "--annotations", info, "--detector-weights", weights]
    done = run(*words, "--out", tmp_path / "o.json", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "AP50" not in done.stdout
    assert json.loads((tmp_path / "o.json").read_text())


def test_the_script_tells_the_ap_of_any_file(people):
    found = people / "person_detection_results/val2017_person_detections.json"
    done = run("--annotations", people / PERSONS, "--eval-only", found)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == format_ap(person_ap(read_listed(people / PERSONS), found), found)


def test_wrong_words_are_refused():
    for words, told in (
        (["--out", "o.json"], "either --cfg or --annotations"),
        (["--annotations", "a.json", "--out", "o.json"], "--annotations needs --images"),
        (["--annotations", "a.json", "--eval-only", "b.json"], "annotation file a.json cannot be read"),
    ):
        done = run(*words)
        assert done.returncode == 2
        assert told in done.stderr
