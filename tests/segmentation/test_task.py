"""The second task through the same training and testing: whole runs of a tiny network on a few drawn scenes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.checkpoints import load_checkpoint
from psa_pose.errors import CheckpointError, ConfigError, DataError
from psa_pose.evaluation.test import load_model, run_test
from psa_pose.files import read_json
from psa_pose.segmentation.data.label_files import read_indices
from psa_pose.segmentation.data.synthetic import label_folder
from psa_pose.segmentation.evaluation.compare import run_compare as compare_labels
from psa_pose.segmentation.inference.labeller import build_scores
from psa_pose.segmentation.metrics.confusion import STATS
from psa_pose.tasks import build_task
from psa_pose.training import step as training_step
from psa_pose.training.loop import run_train
from psa_pose.training.setup import build_state
from psa_pose.training.step import train_step
from tests.commands import run_here
from tests.processes import in_processes
from tests.runs import json_lines

REPOSITORY = Path(__file__).parents[2]
HMSA = [
    *("MODEL.NAME", "hrnet_ocr_hmsa", "LOSS.NAME", "rmi", "LOSS.OUTPUT_WEIGHTS", [0.4, 0.05, 0.05, 1]),
    *("TEST.PROTOCOLS", ["hmsa", "full"], "TEST.SCALES", [0.5, 1.0], "MODEL.ATTENTION.WHERE", "basic"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes):
    """The folder of a run of two epochs; made by the first test that asks for it."""
    made = {}

    def folder(cfg) -> Path:
        if not made:
            made["folder"] = run_train(build_task(cfg))
        return made["folder"]

    return folder


@pytest.fixture
def run(trained, scene_config, tmp_path_factory):
    folder = trained(scene_config("OUTPUT_DIR", tmp_path_factory.mktemp("trained") / "run", "TRAIN.SAVE_EVERY", 2))
    return folder


def losses(folder: Path) -> list[float]:
    return [line["train"]["loss"] for line in json_lines(folder / "metrics.jsonl") if "train" in line]


def test_a_run_leaves_losses_figures_and_pictures(run):
    assert len(losses(run)) == 6
    figures = [line["test"]["full"] for line in json_lines(run / "metrics.jsonl") if "test" in line]
    assert figures[-1].keys() >= set(STATS) | {"boundary_iou"}
    for name in ("train_crops", "predictions"):
        assert (run / "pictures" / f"{name}.png").is_file()
    content = load_checkpoint(run / "best.pt")
    assert content["classes"]["names"] == ["background", "ground", "box", "ball", "person"]
    assert "skeleton" not in content


def check_comparison(folder, results, tmp_path):
    """tools/compare.py: against itself nothing, full against full + flip the difference of the two."""
    files = [folder / f"segmentation_val_{protocol}.npz" for protocol in ("full", "flip")]
    done = run_here(REPOSITORY / "tools/compare.py", *files, "--resamples", 50, "--json", tmp_path / "difference.json")
    assert done.returncode == 0, done.stderr
    assert "warning: full is compared with full + flip" in done.stdout
    found = read_json(tmp_path / "difference.json", "file")
    full, _, flip, _ = results
    assert found["differences"]["miou"]["value"] == pytest.approx(flip.stats["miou"] - full.stats["miou"], abs=1e-12)
    assert found["first"]["pixel_accuracy"] == full.stats["pixel_accuracy"]
    same = compare_labels(files[0], files[0], 10, info=[].append)
    assert all(d.value == d.low == d.high == 0 for d in same.values())
    with pytest.raises(DataError, match=r"holds no counts that tools/test.py wrote"):
        compare_labels(folder / "metrics.json", files[0])


def test_a_test_names_its_protocols_and_its_masks_are_what_was_scored(run, scene_config, scenes, tmp_path):
    protocols = ["full", "crop", "flip", "ms_flip"]
    cfg = scene_config("TEST.PROTOCOLS", protocols, "TEST.CROP_SIZE", 48, "OUTPUT_DIR", tmp_path / "test")
    results = run_test(build_task(cfg), run / "best.pt", report=True)
    folder = tmp_path / "test/test"
    assert [row["protocol"] for row in read_json(folder / "metrics.json", "file")] == protocols
    table = build_task(cfg).table(results)
    assert [line.split("  ")[0] for line in table.splitlines()[2:]] == ["full", "crop", "full + flip", "ms + flip"]
    for result in results:
        assert (folder / f"segmentation_val_{result.protocol}_report.html").is_file()
        stored = np.load(folder / f"segmentation_val_{result.protocol}.npz")
        np.testing.assert_array_equal(stored["confusion"], result.confusion)
    check_comparison(folder, results, tmp_path)
    full = results[0]
    right = labelled = 0
    for name in full.names:
        label = read_indices(label_folder(scenes, "val") / f"{name}.png")
        mask = read_indices(folder / "masks_val_full" / f"{name}.png")
        right, labelled = right + ((mask == label) & (label != 255)).sum(), labelled + (label != 255).sum()
    assert full.stats["pixel_accuracy"] == pytest.approx(right / labelled, abs=1e-12)
    assert results[1].confusion.sum() < full.confusion.sum()


@pytest.mark.parametrize(("oracle", "least"), [("labels", 1.0), ("targets", 0.6)])
def test_the_truth_scores_what_it_should(scene_config, oracle, least):
    (result,) = run_test(build_task(scene_config()), None, oracle)
    assert least <= result.score <= 1
    assert (result.score == 1) == (oracle == "labels")


def test_any_number_of_processes_answers_the_same(run, scene_config, tmp_path):
    one, two = (build_task(scene_config("OUTPUT_DIR", tmp_path / name)) for name in ("one", "two"))
    run_test(one, run / "best.pt")
    in_processes(lambda: len(run_test(two, run / "best.pt")), tmp_path)
    ours, theirs = (tmp_path / name / "test" for name in ("one", "two"))
    assert (ours / "metrics.json").read_bytes() == (theirs / "metrics.json").read_bytes()
    for name in ("names", "confusion"):
        of_one, of_two = (np.load(folder / "segmentation_val_full.npz")[name] for folder in (ours, theirs))
        np.testing.assert_array_equal(of_one, of_two)


def test_killed_it_goes_on_to_the_bit(run, scene_config, monkeypatch):
    update = training_step.update_weights

    def killed(state, number, *options):
        update(state, number, *options)
        if number == 4:
            monkeypatch.setattr(training_step, "update_weights", update)
            raise KeyboardInterrupt

    monkeypatch.setattr(training_step, "update_weights", killed)
    cfg = scene_config("TRAIN.SAVE_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        run_train(build_task(cfg))
    folder = run_train(build_task(cfg), resume=True)
    ours, theirs = (load_checkpoint(f / "last.pt") for f in (folder, run))
    assert losses(folder) == losses(run)
    assert ours["best"] == theirs["best"]
    assert all(torch.equal(ours["model"][key], theirs["model"][key]) for key in theirs["model"])


def step_gradient(cfg, parts=1):
    """The loss and the gradient of the first batch."""
    task = build_task(cfg)
    torch.manual_seed(0)
    state = build_state(task, task.build_model())
    state.train_mode()
    batch = task.batch_maker()(task.train_set(print), [(0, row) for row in range(4)])
    loss, _ = train_step(task, state, batch, 0, 0.0)
    return loss, [p.grad for p in state.model.parameters()]


@pytest.mark.parametrize(
    "words",
    [
        HMSA,
        ["MODEL.NAME", "hrnet_ocr", "LOSS.NAME", "ohem", "LOSS.OUTPUT_WEIGHTS", [0.4, 1], "LOSS.OHEM_KEPT", 500],
        ["MODEL.NAME", "hrnetv2", "LOSS.NAME", "focal"],
        ["LOSS.NAME", "rmi", "MODEL.BACKBONE", "mobilenet_v2"],
    ],
)
def test_every_network_and_loss_takes_a_step(scene_config, words):
    loss, gradients = step_gradient(scene_config(*words))
    assert torch.isfinite(loss)
    assert loss > 0
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_hmsa_is_asked_for_joined_scales_and_for_one(scene_config):
    cfg = scene_config(*HMSA)
    model = build_task(cfg).build_model().eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        joined, single = (build_scores(cfg, model, protocol)(images) for protocol in ("hmsa", "full"))
        assert torch.equal(joined, model(images))
        assert torch.equal(single, model.at_scale(images, 1.0)[1])
    assert not torch.equal(joined, single)


def test_a_batch_in_parts_has_the_same_loss_and_gradient(scene_config):
    words = ["LOSS.NAME", "rmi", "TRAIN.FREEZE_BATCHNORM", True, "MODEL.ATTENTION.NAME", "none"]
    (loss, gradients), (in_parts, theirs) = (
        step_gradient(_without_dropout(scene_config, *words, "TRAIN.ACCUMULATE", parts)) for parts in (1, 2)
    )
    torch.testing.assert_close(in_parts, loss)
    for a, b in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)


def _without_dropout(make, *words):
    """HRNetV2 has none."""
    return make("MODEL.NAME", "hrnetv2", *words)


def test_a_checkpoint_of_other_classes_is_refused(run, scene_config, tmp_path):
    (tmp_path / "four.yaml").write_text("classes: [background, ground, box, ball]\n")
    cfg = scene_config("DATASET.CLASSES", tmp_path / "four.yaml", "MODEL.NUM_CLASSES", 4)
    with pytest.raises(CheckpointError, match=r"of its 5 number 4 is 'person', of the config's 4 '\(no class\)'"):
        load_model(build_task(cfg), run / "best.pt", print)


def test_a_pose_checkpoint_is_refused_and_the_other_way_round(run, scene_config, tiny_config):
    with pytest.raises(CheckpointError, match="skeleton"):
        load_model(build_task(tiny_config()), run / "best.pt", print)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["MODEL.NUM_CLASSES", 4], "DATASET.CLASSES synthetic has 5 classes; write MODEL.NUM_CLASSES 5"),
        (["LOSS.OUTPUT_WEIGHTS", [0.4, 1]], "deeplabv3plus answers 1 maps"),
        (["LOSS.CLASS_WEIGHTS", [1.0, 2.0]], "has 2 numbers for 5 classes"),
        (["LOSS.NAME", "rmi", "LOSS.OVER_ALL_PIXELS", True], "has no such mean"),
        (["TEST.PROTOCOLS", ["hmsa"]], "joins no scales"),
        (["TEST.PROTOCOLS", ["fulll"]], "did you mean 'full'"),
        (["TEST.PROTOCOLS", []], "name at least one"),
        (["MODEL.NAME", "hrnet"], "is 'hrnet' but TASK is 'segmentation'"),
        (["DATASET.FORMAT", "coco"], "is 'coco' but TASK is 'segmentation'"),
        (["MODEL.ATTENTION.WHERE", "outputs"], "are reached by 'all' or 'basic'"),
        (["DATASET.CLASSES", "pascal"], "no .yaml file either"),
        (["AUGMENT.SCALE_RANGE", [2.0, 1.0]], "give \\[least, greatest\\]"),
    ],
)
def test_contradictions_are_named_before_any_data_is_read(scene_config, words, says):
    with pytest.raises(ConfigError, match=says):
        build_task(scene_config(*words))


def test_a_test_split_without_labels_is_refused_before_the_first_step(scene_config, scenes):
    words = ["DATASET.FORMAT", "folder", "DATASET.TRAIN_IMAGES", "images/train", "DATASET.TRAIN_LABELS", "labels/train"]
    cfg = scene_config(*words, "DATASET.TEST_IMAGES", "images/val", "DATASET.TEST_LABELS", "")
    with pytest.raises(DataError, match=r"images/val has no labels to score with; test another split"):
        run_train(build_task(cfg))
    assert not losses_file(cfg).exists()


def losses_file(cfg) -> Path:
    return Path(cfg.OUTPUT_DIR) / "metrics.jsonl"


@pytest.mark.parametrize(
    ("batch", "parts", "fits"),
    [(4, 1, True), (11, 1, False), (13, 1, True), (1, 1, False), (4, 3, True), (5, 2, False), (3, 2, False)],
)
def test_a_step_of_one_image_is_refused_where_it_cannot_be_normalised(scene_config, batch, parts, fits):
    """Of 12 pictures: 4 in three parts are 2 and 2, as the step cuts them; 5, 5 and 2 in two parts leave one alone."""
    words = ["TRAIN.BATCH_SIZE", batch, "TRAIN.ACCUMULATE", parts]
    task = build_task(scene_config(*words))
    if fits:
        assert len(task.train_set(print)) == 12
        return
    with pytest.raises(ValueError, match="more than 1 value"):
        task.build_model()(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ConfigError, match="shows deeplabv3plus one image alone"):
        task.train_set(print)
    build_task(scene_config(*words, "MODEL.NAME", "hrnetv2")).train_set(print)


def test_segmentation_words_are_refused_in_a_pose_config(tiny_config):
    with pytest.raises(ConfigError, match="is 'hrnetv2' but TASK is 'pose'"):
        tiny_config("MODEL.NAME", "hrnetv2")


def test_a_missing_label_ends_a_run_or_is_counted(scene_config, scenes, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for path in sorted((scenes / "images/train").iterdir())[:4]:
        (images / path.name).write_bytes(path.read_bytes())
    for path in sorted((scenes / "labels/train").iterdir())[:3]:
        (labels / path.name).write_bytes(path.read_bytes())
    words = ["DATASET.FORMAT", "folder", "DATASET.TRAIN_IMAGES", images, "DATASET.TRAIN_LABELS", labels]
    words += ["DATASET.TEST_IMAGES", images, "DATASET.TEST_LABELS", labels]
    with pytest.raises(DataError, match=r"label .*000004.png is missing"):
        build_task(scene_config(*words)).train_set(print)
    said = []
    dataset = build_task(scene_config(*words, "DATASET.ON_ERROR", "skip")).train_set(said.append)
    assert len(dataset) == 3
    assert any(line.startswith("skipped: label") for line in said)
    assert any("the same pictures" in line for line in said)


def test_class_uniform_crops_leave_out_an_unusable_label_where_that_is_asked_for(scene_config, scenes, tmp_path):
    for kind in ("images", "labels"):
        shutil.copytree(scenes / kind / "train", tmp_path / kind)
    (tmp_path / "labels/000002.png").write_text("no picture")
    words = ["DATASET.FORMAT", "folder", "DATASET.ROOT", tmp_path, "AUGMENT.CLASS_UNIFORM_PROB", 0.5]
    words += [word for w in ("TRAIN", "TEST") for k in ("images", "labels") for word in (f"DATASET.{w}_{k.upper()}", k)]
    with pytest.raises(DataError, match=r"000002.png is not a picture .*ON_ERROR skip"):
        build_task(scene_config(*words)).train_set(print)
    said = []
    dataset = build_task(scene_config(*words, "DATASET.ON_ERROR", "skip")).train_set(said.append)
    assert "skipped 1 unusable" in said[-1]
    assert 1 not in dataset.places.picture
    assert set(dataset.places.picture) == set(range(12)) - {1}


def test_a_picture_in_train_and_test_is_refused(scene_config):
    words = ["DATASET.FORMAT", "folder", "DATASET.TRAIN_IMAGES", "images/train", "DATASET.TEST_IMAGES", "images"]
    with pytest.raises(DataError, match=r"lists .*000001.jpg and 11 more, which .* tests on"):
        build_task(scene_config(*words)).train_set(print)
