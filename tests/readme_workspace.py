"""A folder in which the commands of the README pages run quickly: small data and networks, every file they name."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.config import dump_config, load_config
from psa_pose.models import build_model
from psa_pose.segmentation.data.synthetic import generate as generate_scenes
from psa_pose.segmentation.spec import SegmentationSpec
from tests.commands import run_here
from tests.data.made_lsp import make_lsp
from tests.readme_commands import (
    COCO,
    HRNET,
    LSP_R18,
    QUICKSTART,
    SCENES,
    SEGMENTATION,
    SMALL,
    TINY,
    TINY_HRNET,
    TINY_LSP,
    TINY_SEGMENTATION,
)
from tests.scripts.mirror import make_mirror

REPOSITORY = Path(__file__).parents[1]
PUBLISHED_BOXES = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
OWN_BOXES = "person_detection_results/val2017_person_detections.json"


def make_workspace(people: Path, root: Path) -> Path:
    """The repository's folders as links, `people` as data/synthetic and under COCO's names, and made-up networks."""
    root.mkdir()
    for name in ("configs", "tools", "scripts"):
        (root / name).symlink_to(REPOSITORY / name)
    shutil.copytree(people, root / "data/synthetic")
    labels = people / "annotations/person_keypoints_train2017.json"
    done = run_here("tools/import_dataset.py", labels, "--images", people / "train2017", "--out", "data/mine",
                    "--split", "0.2", folder=root)  # fmt: skip
    assert done.returncode == 0, done.stderr
    make_coco(people, root / "data/coco")
    make_lsp(people, root / "data/lspet")
    make_mirror(people, root / "mirror")
    mine = f"{SMALL} MODEL.ATTENTION.NAME none INPUT.PADDING 1.25"
    networks = ((LSP_R18, SMALL, TINY_LSP), (QUICKSTART, mine, "output/mine/best.pt"))
    for config, words, path in (*networks, (QUICKSTART, SMALL, TINY), (HRNET, COCO, TINY_HRNET)):
        cfg = load_config(REPOSITORY / config, overrides(words))
        torch.manual_seed(0)
        content = checkpoint_content(cfg, ModelSpec.of_config(cfg), build_model(cfg), None, 1, -1.0)
        save_checkpoint(root / path, content)
    make_scenes(root)
    torch.save(content["model"], root / "pose_hrnet_w32_256x192.pth")
    shutil.copy(root / TINY_HRNET, root / "hrnet_w32.pt")
    (root / "output/longer").mkdir()
    shutil.copy(root / TINY, root / "output/longer")
    longer = load_config(REPOSITORY / QUICKSTART, ["OUTPUT_DIR", "output/longer", *overrides(SMALL)])
    (root / "output/longer/config.yaml").write_text(dump_config(longer))
    make_pictures(people, root)
    return root


def make_scenes(root: Path) -> None:
    """A few scenes with label maps, and an untrained network of segmentation."""
    scenes = root / "data/synthetic_segmentation"
    generate_scenes(scenes, {"train": 4, "val": 2}, image_size=(96, 80), workers=1, progress=False)
    cfg = load_config(REPOSITORY / SEGMENTATION, overrides(SCENES))
    content = checkpoint_content(cfg, SegmentationSpec.of_config(cfg), build_model(cfg), None, 1, -1.0)
    save_checkpoint(root / TINY_SEGMENTATION, content)
    words = {"names": ["a", "b"], "classes": ["x", "y"], "protocol": "full", "split": "val"}
    np.savez(root / TINY_SEGMENTATION.replace("best.pt", "counts.npz"), confusion=np.ones((2, 2, 2), int), **words)
    vainf = build_model(load_config(REPOSITORY / "configs/voc/deeplabv3plus_mobilenet.yaml"))
    torch.save({"model_state": vainf.state_dict()}, root / "best_deeplabv3plus_mobilenet_voc_os16.pth")


def make_coco(people: Path, root: Path) -> None:
    """Synthetic people under the names of COCO and of the published detection file."""
    shutil.copytree(people, root)
    (root / "test2017").symlink_to(root / "val2017")
    for name in (PUBLISHED_BOXES, "own_boxes.json", "detections.json"):
        shutil.copy(people / OWN_BOXES, root / name)
    truth = json.loads((root / "annotations/person_keypoints_val2017.json").read_text())
    info = {"images": truth["images"], "categories": truth["categories"]}
    (root / "annotations/image_info_test-dev2017.json").write_text(json.dumps(info))
    first = truth["images"][0]
    truth |= {"images": [first], "annotations": [a for a in truth["annotations"] if a["image_id"] == first["id"]]}
    (root / "annotations/one_image.json").write_text(json.dumps(truth))


def make_pictures(people: Path, root: Path) -> None:
    """picture.jpg, folder, more/*.png and video.mp4; detections.json has boxes on the pictures of `folder`."""
    images = sorted((people / "val2017").iterdir())[:2]
    shutil.copy(images[0], root / "picture.jpg")
    for name in ("folder", "more"):
        (root / name).mkdir()
    shutil.copy(images[0], root / "folder")
    pixels = cv2.imread(str(images[1]))
    cv2.imwrite(str(root / "more/one.png"), pixels)
    writer = cv2.VideoWriter(str(root / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, pixels.shape[1::-1])
    for _ in range(2):
        writer.write(np.ascontiguousarray(pixels))
    writer.release()
    shutil.copy(people / OWN_BOXES, root / "detections.json")


def make_detector(path: Path) -> None:
    """Weights of the person detector's layout that take something for persons."""
    from torchvision.models import get_model

    from psa_pose.inference.detector import DETECTOR

    torch.manual_seed(0)
    state = get_model(DETECTOR, weights=None, weights_backbone=None).state_dict()
    state["roi_heads.box_predictor.cls_score.bias"][1] += 4
    torch.save(state, path)


def overrides(words: str) -> list[str]:
    """The words of a smoke form's `add`, as a shell splits them."""
    return shlex.split(words)


def environment(root: Path) -> dict[str, str]:
    """For the scripts: where to download from, and which Python."""
    return {**os.environ, "COCO_MIRROR": f"file://{root / 'mirror'}", "PYTHON": sys.executable}
