"""Imports flow one way: the floors of the house, from the ground up; a file imports only from floors below its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "psa_pose"

# Rooms on one floor are neighbours and do not import each other.
FLOORS = (
    ("errors", "tables"),
    ("files", "command_line"),
    ("skeleton", "geometry", "media"),
    ("distributed", "device", "threads", "parallel", "cuda_graphs", "run_log", "tracker"),
    ("config",),
    ("attention", "losses", "codecs"),
    ("models",),
    ("data", "synthetic"),
    ("metrics",),
    ("visualization",),
    ("checkpoints",),
    ("predict",),
    ("export", "inference"),
    ("task",),
    ("training", "evaluation"),
    ("segmentation",),
    ("tasks",),
    ("dataset_tools", "label_import", "benchmark", "paper"),
    ("study", "gpu_check"),
    ("__main__",),
)
# Within a floor, where one leans on its neighbour.
NEIGHBOURS = {
    ("device", "distributed"),
    ("run_log", "distributed"),
    ("run_log", "tracker"),
    ("codecs", "losses"),
    ("synthetic", "data"),
}
NEIGHBOURS |= {("paper", "dataset_tools")}
# One function builds the networks of both tasks; it says there why.
NEIGHBOURS |= {("models", "segmentation")}

# The floors inside the room of segmentation.
SEGMENTATION_FLOORS = (
    ("classes",),
    ("cityscapes_classes",),
    ("data", "networks", "metrics", "visualization"),
    ("losses", "spec"),
    ("inference",),
    ("evaluation",),
)


def imported_rooms(file: Path, package: str = "psa_pose") -> set[str]:
    """The files and folders of a package that a file imports from; package: with dots."""
    rooms, place, folder = set(), package.count(".") + 1, PACKAGE.parent / package.replace(".", "/")
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names]
        rooms |= {name.split(".")[place] for name in names if name.startswith(f"{package}.")}
    return {room for room in rooms if (folder / room).is_dir() or (folder / f"{room}.py").is_file()}


@pytest.mark.parametrize("package", ["psa_pose", "psa_pose.segmentation"])
def test_rooms_import_only_from_floors_below(package):
    floors, folder = (FLOORS, PACKAGE) if package == "psa_pose" else (SEGMENTATION_FLOORS, PACKAGE / "segmentation")
    floor_of = {room: number for number, floor in enumerate(floors) for room in floor}
    files = [file for file in folder.rglob("*.py") if file != folder / "__init__.py"]
    assert files
    problems = []
    for file in files:
        room = file.relative_to(folder).parts[0].removesuffix(".py")
        for other in imported_rooms(file, package) - {room}:
            if floor_of[other] >= floor_of[room] and (room, other) not in NEIGHBOURS:
                problems.append(f"{file.relative_to(folder)} imports {other}")
    assert not problems, "\n".join(problems)


def modules_after(statement: str) -> list[str]:
    """What a fresh process has imported."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_trainer_loads_no_page_no_benchmark_and_no_network():
    loaded = modules_after("import psa_pose.training.loop")
    ours = [name for name in loaded if name.split(".")[0] == "psa_pose"]
    assert len(ours) <= 45, ours
    rooms = {name.split(".")[1] for name in ours if "." in name}
    assert not rooms & {"models", "evaluation", "metrics", "visualization", "benchmark", "paper", "tasks"}
    for name in ("matplotlib", "onnx", "tensorboard", "torchvision", "pycocotools", "scipy"):
        assert name not in loaded


def test_the_package_alone_loads_no_torch():
    assert "torch" not in modules_after("import psa_pose")
