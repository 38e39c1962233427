"""scripts/download_coco.sh on archives like COCO's, from a folder and from servers with faults."""

import fcntl
import json
import os
import re
import shutil
import subprocess

import pytest

from tests.scripts.mirror import NEEDED, SCRIPT, download, make_mirror, row, served, write_zip

pytestmark = pytest.mark.skipif(bool(NEEDED), reason=f"{NEEDED} not installed")


@pytest.fixture(scope="module")
def mirror(people, tmp_path_factory):
    return make_mirror(people, tmp_path_factory.mktemp("mirror") / "coco")


@pytest.fixture
def table(mirror):
    return mirror / "archives.txt"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def leftovers(root):
    return [p.name for p in root.iterdir() if p.name.startswith(".unpacking")] + [
        p.name for p in (root / ".download").iterdir() if p.name != "lock"
    ]


def test_everything_is_fetched_checked_and_not_fetched_again(people, mirror, table, tmp_path):
    root = tmp_path / "data/coco"
    with served(mirror) as (address, requests):
        done = download(root, address, table)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(requests) == 4
        assert "zips/test2017.zip" not in str(requests)
        for split in ("train2017", "val2017"):
            assert names(root / split) == names(people / split)
        wanted = ["image_info_test-dev2017.json", "person_keypoints_train2017.json", "person_keypoints_val2017.json"]
        assert names(root / "annotations") == wanted
        assert leftovers(root) == []
        assert "COCO offers none" in done.stdout
        assert "AP_H_56_person.json" in done.stdout
        # It ends with the look at the data.
        config = "configs/coco/simple_baseline/simple_baseline_r50_256x192.yaml"
        assert f"python tools/check_dataset.py --cfg {config} DATASET.ROOT {root}" in done.stdout
        assert done.stdout.splitlines()[-1] == "no errors"
        again = download(root, address, table)
        assert again.returncode == 0, again.stderr
        assert len(requests) == 4


def test_parts_come_alone_and_a_table_may_lack_checksums(mirror, table, tmp_path):
    root, unknown = tmp_path / "coco", tmp_path / "archives.txt"
    lines = [line.split() for line in table.read_text().splitlines()]
    unknown.write_text("\n".join(" ".join([*w[:3], "-", *w[4:]]) for w in lines))
    test = download(root, f"file://{mirror}", unknown, "--only", "test")
    assert test.returncode == 0, test.stderr
    assert "no checksum is known" in test.stdout
    assert "nothing to train or test on yet" in test.stdout
    assert len(names(root / "test2017")) == 8
    both = download(root, f"file://{mirror}", unknown, "--only", "val,annotations")
    assert both.returncode == 0, both.stdout + both.stderr
    assert not (root / "train2017").exists()
    assert both.stdout.splitlines()[-1] == "no errors"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(mirror, table, tmp_path, ranges):
    root = tmp_path / "coco"
    with served(mirror, stop_after=5000, ranges=ranges) as (address, requests):
        done = download(root, address, table, "--only", "val")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on after 5000 of" in done.stdout
    assert requests[-1] == ("/zips/val2017.zip", 5000 if ranges else 0)
    assert len(names(root / "val2017")) == 8


def test_a_download_of_an_earlier_run_is_gone_on_with(mirror, table, tmp_path):
    root = tmp_path / "coco"
    (root / ".download").mkdir(parents=True)
    data = (mirror / "zips/val2017.zip").read_bytes()
    (root / ".download/val2017.zip").write_bytes(data[:7000])
    # What a kill while it unpacked would leave.
    (root / ".unpacking/val2017").mkdir(parents=True)
    (root / ".unpacking/val2017/torn.jpg").write_bytes(b"torn")
    with served(mirror) as (address, requests):
        done = download(root, address, table, "--only", "val")
    assert done.returncode == 0, done.stderr
    assert requests == [("/zips/val2017.zip", 7000)]
    assert len(names(root / "val2017")) == 8
    assert leftovers(root) == []


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock, nobody looks")
def test_two_downloads_into_one_folder_are_refused(mirror, table, tmp_path):
    lock = tmp_path / "coco/.download/lock"
    lock.parent.mkdir(parents=True)
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = download(tmp_path / "coco", f"file://{mirror}", table, "--only", "val")
    assert done.returncode == 1
    assert "another download into" in done.stderr
    assert not (tmp_path / "coco/val2017").exists()


def test_the_page_states_the_bytes_and_files_of_the_script():
    page = (SCRIPT.parents[1] / "data/README.md").read_text()
    rows = re.findall(r"^\w+ +\w+/(\w+\.zip) +(\d+) +([0-9a-f]{32}) +\S+ +(\d+)$", SCRIPT.read_text(), re.M)
    assert len(rows) == 5
    for name, size, _, files in rows:
        assert f"| `{name}` | {int(size):,} |" in page
        assert int(files) < 3 or f" {int(files):,} images" in page


@pytest.mark.parametrize("known", [True, False])
def test_a_damaged_archive_leaves_nothing_and_is_fetched_anew(mirror, tmp_path, known):
    root, bad = tmp_path / "coco", tmp_path / "bad"
    shutil.copytree(mirror, bad)
    data = bytearray((bad / "zips/val2017.zip").read_bytes())
    data[3000] ^= 255
    (tmp_path / "archives.txt").write_text(row("val", mirror, "zips/val2017.zip", "val2017/*.jpg", 8, known))
    (bad / "zips/val2017.zip").write_bytes(data)
    done = download(root, f"file://{bad}", tmp_path / "archives.txt", "--only", "val")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {root}/.download/val2017.zip was damaged (")
    assert "run this again to fetch it anew" in done.stderr
    assert not (root / "val2017").exists()
    assert leftovers(root) == []
    assert download(root, f"file://{mirror}", tmp_path / "archives.txt", "--only", "val").returncode == 0


def test_an_archive_that_lacks_files_is_not_put_in_place(mirror, tmp_path):
    short = tmp_path / "short"
    (short / "zips").mkdir(parents=True)
    write_zip(short / "zips/val2017.zip", {"val2017/000000000001.jpg": b"x"})
    (tmp_path / "archives.txt").write_text(row("val", short, "zips/val2017.zip", "val2017/*.jpg", 8))
    done = download(tmp_path / "coco", f"file://{short}", tmp_path / "archives.txt", "--only", "val")
    assert done.returncode == 1
    assert "holds 1 files of val2017/*.jpg, not 8" in done.stderr
    assert not (tmp_path / "coco/val2017").exists()
    assert not (tmp_path / "coco/.unpacking").exists()


def test_a_folder_of_somebody_else_is_left_alone(mirror, table, tmp_path):
    mine = tmp_path / "coco/val2017"
    mine.mkdir(parents=True)
    (mine / "1.jpg").write_bytes(b"mine")
    done = download(tmp_path / "coco", f"file://{mirror}", table, "--only", "val")
    assert done.returncode == 1
    assert "has 1 of 8 files and was not made by this script; move it away" in done.stderr
    assert names(mine) == ["1.jpg"]


def test_a_full_disk_and_a_wrong_address_are_told_before_anything_is_spoilt(mirror, table, tmp_path):
    (tmp_path / "huge.txt").write_text(f"val zips/val2017.zip {10**18} - val2017/*.jpg 8")
    full = download(tmp_path / "coco", f"file://{mirror}", tmp_path / "huge.txt", "--only", "val")
    assert full.returncode == 1
    assert full.stderr.startswith("error: 2050000000.0 GB are needed in")
    with served(mirror) as (address, requests):
        wrong = download(tmp_path / "coco", f"{address}/elsewhere", table, "--only", "val")
        assert requests == []
    assert wrong.returncode == 1
    assert "is not there (curl: 22, HTTP 404); COCO_MIRROR names another place" in wrong.stderr
    option = download(tmp_path / "coco", address, table, "--only", "vla")
    assert option.returncode == 1
    assert "--only vla is no part" in option.stderr


@pytest.mark.parametrize("part", ["annotations/annotations_trainval2017", "zips/val2017"])
def test_without_a_table_the_archives_are_cocos(tmp_path, part):
    words = ["--root", tmp_path / "coco", "--only", "annotations" if "annotations" in part else "val"]
    environment = {**os.environ, "COCO_MIRROR": f"file://{tmp_path}/nowhere"}
    command = ["bash", str(SCRIPT), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"file://{tmp_path}/nowhere/{part}.zip is not there" in done.stderr


def test_the_check_at_the_end_finds_what_is_wrong(people, tmp_path):
    broken = tmp_path / "people"
    shutil.copytree(people, broken)
    path = broken / "annotations/person_keypoints_val2017.json"
    truth = json.loads(path.read_text())
    truth["annotations"][0]["area"] = 0
    path.write_text(json.dumps(truth))
    folder = make_mirror(broken, tmp_path / "mirror")
    done = download(tmp_path / "coco", f"file://{folder}", folder / "archives.txt")
    assert done.returncode == 1
    assert "no area" in done.stdout
