"""The commands by name, from the checkout and from a wheel; and settings of their process."""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from psa_pose.__main__ import main, tools
from psa_pose.command_line import collect_less_often, run_command
from tests.commands import run_here

REPOSITORY = Path(__file__).parents[1]
MOVED = {
    "reproduce": "reproduce",
    "convert_checkpoint": "convert",
    "detect_people": "detect",
    "make_synthetic": "synthetic",
    "study_attention": "study",
}

# Asks every command for its help, and those that take a config for a run with a wrong one; prints what is loaded then.
ANSWERS = """
import sys
from psa_pose.__main__ import main, tools
heavy, config = ["torch", "cv2", "numpy", "scipy"], sys.argv[1]
def answer(*words):
    try:
        main(words)
    except SystemExit as end:
        print("STATUS", end.code, *words, *(name for name in heavy if name in sys.modules))
for name in tools():
    answer(name, "--help")
for name in ["train", "test --checkpoint c", "browse", "check-dataset", "complexity", "study"]:
    answer(*name.split(), "--cfg", "nowhere.yaml")
    answer(*name.split(), "--cfg", config, "TRAIN.EPOCS", "1")
"""

# Frees and takes 80 MB again, 8 times, touching every page, in a thread of its own; prints how many page faults that
# took.
FAULTS = """
import resource, sys, threading
import numpy as np
from psa_pose.command_line import keep_freed_memory
changed = keep_freed_memory() if sys.argv[1] == "keep" else False
def work():
    np.ones(10**7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(10**7)
    print(changed, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.fixture(autouse=True)
def _settings_end_with_the_test(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")


def test_every_tool_is_listed_in_one_line(capsys):
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: psa-pose COMMAND [--help] ..."
    files = sorted((REPOSITORY / "tools").glob("*.py"))
    names = [file.stem.replace("_", "-") for file in files]
    assert [line.split()[0] for line in lines[2:]] == ["import" if n == "import-dataset" else n for n in names]
    assert {"train", "test", "infer", "check-dataset", "import", "reproduce", "study"} <= tools().keys()
    for line in lines[2:]:
        assert re.fullmatch(r"  [a-z-]+ +[A-Z][^:]{8,70}[^.:]", line), line


@pytest.mark.parametrize("name", tools())
def test_a_command_has_the_help_of_its_tool(name, capsys):
    path = tools()[name]
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: psa-pose {name} ")

    def words(text: str) -> list[str]:
        # The usage is wrapped by the length of the name.
        return text.replace(f"psa-pose {name}", path.name).split()

    assert words(told) == words(run_here(path, "--help").stdout)


def test_an_unknown_command_is_told_the_nearest(capsys):
    with pytest.raises(SystemExit) as end:
        main(["tarin", "--cfg", "a.yaml"])
    assert end.value.code == 2
    assert "there is no command 'tarin'; did you mean 'train'? Valid: benchmark, " in capsys.readouterr().err


@pytest.mark.parametrize(("before", "after"), [(700, 100_000), (2_000, 100_000), (0, 0), (200_000, 200_000)])
def test_a_command_has_a_patient_collector_unless_its_user_decided_otherwise(before, after):
    kept, seen = gc.get_threshold(), []
    try:
        for set_it in (collect_less_often, lambda: run_command(lambda: seen.append(gc.get_threshold()))):
            gc.set_threshold(before, 10, 5)
            set_it()
            seen.append(gc.get_threshold())
    finally:
        gc.set_threshold(*kept)
    assert seen == 3 * [(after, 10, 5)]


def test_help_and_a_wrong_config_wait_for_no_library():
    command = [sys.executable, "-c", ANSWERS, str(REPOSITORY / "configs/synthetic/quickstart.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [line.split() for line in done.stdout.splitlines() if line.startswith("STATUS")]
    assert len(answers) == len(tools()) + 12
    for _, status, *words in answers:
        assert status == ("0" if words[-1] == "--help" else "2")
        assert words[-1] in ("--help", "nowhere.yaml", "1"), words
    assert done.stderr.count("nowhere.yaml is neither a file nor the name of one") == 6
    assert done.stderr.count("TRAIN.EPOCS") == 6


@pytest.mark.parametrize("old", MOVED)
def test_a_script_that_moved_forwards(old, tmp_path):
    script, new = REPOSITORY / f"scripts/{old}.py", MOVED[old]
    answer = run_here(script, "--help")
    assert answer.returncode == 0
    assert answer.stdout.startswith(f"usage: psa-pose {new} ")
    assert answer.stderr == f"scripts/{old}.py is now tools/{new}.py, or: psa-pose {new}\n"
    assert run_here(script, "--no-such-option").returncode == 2


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of a wheel's installation; the libraries are those of this environment."""
    root = tmp_path_factory.mktemp("wheel")
    # A build leaves files where it is made.
    for name in ("psa_pose", "tools", "configs"):
        shutil.copytree(REPOSITORY / name, root / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, root / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-index", "--no-deps"]
    make = [*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", root, root / "source"]
    subprocess.run(make, check=True, cwd=root)
    (wheel,) = root.glob("psa_pose-*.whl")
    subprocess.run([*pip, "install", *alone, "--target", root / "site", wheel], check=True, cwd=root)
    return root / "site"


@pytest.mark.slow
def test_a_wheel_holds_every_module_tool_and_config(installed):
    for folder, place in (("psa_pose", "psa_pose"), ("tools", "psa_pose/tools"), ("configs", "psa_pose/configs")):
        files = [p for p in (REPOSITORY / folder).rglob("*") if p.suffix in (".py", ".yaml")]
        assert files
        missing = [p for p in files if not (installed / place / p.relative_to(REPOSITORY / folder)).is_file()]
        assert not missing


@pytest.mark.slow
def test_commands_of_a_wheel_need_no_checkout(installed, tmp_path):
    (tmp_path / "empty").mkdir()

    def start(*words: object) -> str:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        command = [str(installed / "bin/psa-pose"), *map(str, words)]
        done = subprocess.run(
            command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    assert "  train " in start()
    start("synthetic", "--root", "people", "--train", 14, "--val", 6, "--size", 192, 160, "--workers", 1)
    config = "synthetic/quickstart"
    small = ["INPUT.SIZE", "[64,64]", "INPUT.HEATMAP_SIZE", "[16,16]", "MODEL.HEAD_CHANNELS", "16", "CODEC.SIGMA", "0"]
    small += ["DATASET.ROOT", "people", "TRAIN.EPOCHS", "1", "LOADER.WORKERS", "0", "OUTPUT_DIR", "run"]
    start("train", "--cfg", config, *small)
    said = start("test", "--cfg", config, "--checkpoint", "run/last.pt", *small)
    assert "ground truth" in said
    assert json.loads((tmp_path / "empty/run/test/metrics.json").read_text())[0]["protocol"] == "ground_truth"
    # The paper's tables, and their commands, come with it.
    rows = start("reproduce", "--table", "6", "--dry-run", "--rows", "PSA(p)")
    assert f"-m psa_pose train --cfg {installed}/psa_pose/configs/coco/" in rows
    assert "36.518" in start("complexity", "--table", "6")
    assert "coco/hrnet/hrnet_w32_256x192 " in start("configs", "hrnet")


def faults(argument, **environment):
    command = [sys.executable, "-c", FAULTS, argument]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    changed, count = answer.stdout.split()
    return changed == "True", int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is one of glibc's allocator")
def test_freed_memory_is_kept_unless_the_user_says_otherwise():
    changed, kept = faults("keep")
    if not changed:
        pytest.skip("no glibc here")
    _, default = faults("default")
    assert kept < 5_000
    assert kept < default / 2
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] is False
