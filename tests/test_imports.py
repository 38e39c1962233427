"""Imports flow one way: each room may import the rooms listed here, and nothing else of the package."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "psa_pose"

ALLOWED = {
    "process": set(),
    "errors": {"process"},
    "skeleton": {"errors"},
    "geometry": {"errors"},
    "distributed": {"errors"},
    "attention": {"errors"},
    "losses": {"errors"},
    "config": {"errors", "skeleton"},
    "codecs": {"errors", "geometry", "skeleton"},
    "models": {"errors", "attention"},
    "data": {"errors", "geometry", "skeleton", "distributed"},
    "visualization": {"errors", "skeleton"},
    "evaluation": {"errors", "skeleton", "visualization"},
    "checkpoints": {"errors", "distributed"},
    "predict": {"errors", "codecs", "geometry"},
}
ALLOWED["export"] = {"errors", "skeleton", "config", "codecs", "models", "checkpoints", "predict"}
ALLOWED["engine"] = {*ALLOWED, "estimator"}
ALLOWED["detector"] = {"errors", "checkpoints"}
ALLOWED["engine"] |= {"detector"}
ALLOWED["estimator"] = {"errors", "skeleton", "geometry", "config", "codecs", "models", "data", "evaluation"}
ALLOWED["estimator"] |= {"export", "predict"}
ALLOWED["inference"] = {"errors", "skeleton", "geometry", "config", "codecs", "data", "checkpoints", "visualization"}
ALLOWED["inference"] |= {"estimator", "evaluation"}


def imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("psa_pose.")}
    return {room for room in rooms if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()}


def test_rooms_import_only_what_they_may():
    files = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]
    assert files
    for file in files:
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        strangers = imported_rooms(file) - {room} - ALLOWED[room]
        assert not strangers, f"{file.relative_to(PACKAGE)} imports {sorted(strangers)}"


def test_only_builders_and_the_engine_read_a_config():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0]
        if room not in ("config", "engine") and file.name != "build.py":
            assert "yacs" not in file.read_text(), f"{file.relative_to(PACKAGE)} reads the config"
