"""What tools/test.py and tools/compare.py leave behind, with oracles instead of trained networks."""

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from psa_pose.benchmark.eval import benchmark_eval
from psa_pose.dataset_tools.check_dataset import run_check
from psa_pose.errors import DataError
from psa_pose.evaluation import submission
from psa_pose.evaluation import test as testing
from psa_pose.evaluation.compare import run_compare
from psa_pose.skeleton import COCO, make_skeleton
from psa_pose.tasks import build_task
from tests.runs import run_test


@pytest.fixture
def tested(tiny_config):
    """An oracle's run: its config and its result file."""
    cfg = tiny_config()
    evaluation = run_test(cfg, None, "targets", report=True)[0]
    return cfg, evaluation, Path(cfg.OUTPUT_DIR) / "test/keypoints_val2017_ground_truth_results.json"


def test_a_run_leaves_results_their_protocol_and_a_page(tested):
    cfg, evaluation, path = tested
    beside = json.loads(path.with_name("keypoints_val2017_ground_truth_evaluation.json").read_text())
    assert Path(beside.pop("annotations")).samefile(
        Path(cfg.DATASET.ROOT) / "annotations/person_keypoints_val2017.json"
    )
    assert make_skeleton(beside.pop("skeleton"), "beside") == COCO
    assert beside == evaluation.as_dict()
    page = path.with_name("keypoints_val2017_ground_truth_report.html").read_text()
    assert "ground truth boxes, val2017, without flip" in page
    assert not re.search(r"(src|href)=['\"](?!data:)|url\(|<script|@import", page)
    assert page.count("<svg") == 3
    assert page.count("data:image/jpeg") >= 24
    assert set(re.findall(r"http[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}


def test_a_result_file_is_evaluated_without_a_network(tested, capsys):
    cfg, evaluation, path = tested
    assert testing.run_results(cfg, path, report=True, baselines=True) == evaluation
    out = capsys.readouterr().out
    assert "ground truth  val2017  no" in out
    assert "HRNet-W32 256x192, published" in out
    alone = path.parent / "somebody.json"
    shutil.copy(path, alone)
    again = testing.run_results(cfg, alone)
    assert (again.protocol, again.flip, again.stats) == ("unknown", None, evaluation.stats)
    assert capsys.readouterr().out.count("not stated") == 2


def test_two_result_files_are_compared_and_a_mixture_is_told(tested, tmp_path, capsys):
    cfg, evaluation, path = tested
    other = tmp_path / "other_results.json"
    results = json.loads(path.read_text())
    for entry in results:
        entry["keypoints"] = [v + 6 if i % 3 == 0 else v for i, v in enumerate(entry["keypoints"])]
    other.write_text(json.dumps(results))
    beside = json.loads(path.with_name("keypoints_val2017_ground_truth_evaluation.json").read_text())
    (tmp_path / "other_evaluation.json").write_text(json.dumps(beside | {"protocol": "detector", "flip": True}))
    page = tmp_path / "page.html"
    answer = run_compare(path, other, resamples=50, json_path=tmp_path / "c.json", page=page, cfg=cfg)
    out = capsys.readouterr().out
    assert "warning: ground truth boxes are compared with detector boxes" in out
    assert "one of the two was tested with flip" in out
    assert "ground truth boxes are compared with detector boxes" in page.read_text()
    assert page.read_text().count("data:image/jpeg") >= 9
    assert answer.differences["AP"].high < 0
    assert answer.stats[0] == evaluation.stats
    assert json.loads((tmp_path / "c.json").read_text())["differences"]["AP"]["p_value"] < 0.05
    same = run_compare(path, path, resamples=20)
    assert {row["difference"] for row in same.images + same.keypoints} == {0.0}
    (tmp_path / "other_evaluation.json").unlink()
    with pytest.raises(DataError, match="give them with --annotations"):
        run_compare(path, other, resamples=20)


def test_results_of_different_annotations_are_not_compared(tested, tmp_path):
    cfg, _, path = tested
    train = Path(cfg.DATASET.ROOT) / "annotations/person_keypoints_train2017.json"
    other = tmp_path / "b_results.json"
    other.write_text("[]")
    beside = json.loads(path.with_name("keypoints_val2017_ground_truth_evaluation.json").read_text())
    (tmp_path / "b_evaluation.json").write_text(json.dumps(beside | {"annotations": str(train)}))
    with pytest.raises(DataError, match="different annotations"):
        run_compare(path, other, resamples=20)


def test_a_submission_is_made_from_images_without_annotations(tiny_config, people, tmp_path, monkeypatch, capsys):
    truth = json.loads((people / "annotations/person_keypoints_val2017.json").read_text())
    info = tmp_path / "image_info_test-dev2017.json"
    info.write_text(json.dumps({"images": truth["images"], "categories": truth["categories"]}))
    cfg = tiny_config("DATASET.TEST_ANNOTATIONS", info)
    monkeypatch.setattr(submission, "load_model", lambda task, *_: task.oracle("keypoints"))
    path = submission.run_submission(build_task(cfg), tmp_path / "none.pt", "psa")
    assert path.name == "person_keypoints_test-dev2017_psa_results.zip"
    with zipfile.ZipFile(path) as archive:
        entries = json.loads(archive.read("person_keypoints_test-dev2017_psa_results.json"))
    assert {e["image_id"] for e in entries} <= {i["id"] for i in truth["images"]}
    assert "reported closed" in capsys.readouterr().out
    with pytest.raises(DataError, match="test without --submission"):
        submission.run_submission(build_task(tiny_config()), tmp_path / "none.pt", "psa")


def test_the_dataset_check_counts_errors(tiny_config, capsys):
    assert run_check(tiny_config()) == 0
    assert "no errors" in capsys.readouterr().out


def test_the_evaluation_benchmark_measures_and_checks():
    row = benchmark_eval(1, share=0.01, check=True)
    assert {"total_s", "oks_nms_s", "write_s", "coco_eval_s", "bootstrap_s", "pycocotools_s"} <= row.keys()
    assert row["boxes"] == 1041
    assert all(value > 0 for value in row.values())


def test_the_page_fits_a_phone_in_a_real_browser(tested, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here; install the system's package to try the page in a browser")
    page = tested[2].with_name("keypoints_val2017_ground_truth_report.html").read_text()
    measure = (
        "<script>const d = document, e = d.documentElement;"
        "d.title = [e.scrollWidth <= e.clientWidth, [...d.images].every(i => i.complete && i.naturalWidth > 0)].join()"
        "</script>"
    )
    copy = tmp_path / "page.html"
    copy.write_text(page.replace("</body>", f"{measure}</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--virtual-time-budget=5000"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [browser, *options, profile, "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.findall("<title>(.*?)</title>", done.stdout)[0] == "true,true"
