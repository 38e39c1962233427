"""What the README pages show is true: commands run, options and keys exist, Python runs, paths are there.

A new command in a page needs a line in tests/readme_commands.py.
"""

import re
import shlex
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from psa_pose.config import load_config
from psa_pose.config.defaults import default_config
from psa_pose.config.skeleton import make_skeleton
from tests.commands import run_here
from tests.readme_commands import SMOKE
from tests.readme_workspace import environment, make_detector, make_workspace, overrides
from tests.scripts.mirror import NEEDED

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted(page for room in ("configs", "data", "psa_pose") for page in REPOSITORY.glob(f"{room}/**/README.md")),
]
# Where downloads and runs go: these need not be there.
WRITTEN = ("data/coco", "data/pretrained", "data/mpii", "data/lspet", "data/synthetic", "output/")
LAUNCHERS = ("python", "bash", "torchrun", "sbatch", "psa-pose")
# A script of ours by its path, or a command by its name with a word of its own: `psa-pose train` alone is a mention.
OURS = r"\b(tools|scripts)/\w+\.(py|sh)\b|psa(-|_)pose [a-z][a-z-]* +\S"
# Scripts that hand their words on.
PASSED_ON = {"scripts/train_slurm.sh": "tools/train.py"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def commands(page: Path) -> list[str]:
    """Every command of a page that names a tool or script of ours, in blocks and in the text, without its comment."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]
    found = []
    for line in lines:
        if line.startswith(LAUNCHERS) and re.search(OURS, line):
            found.append(shlex.join(shlex.split(line, comments=True)))
    return found


# Configs that a page shows, by the name in their first line.
CONFIGS = {
    text.split()[1]: text for page in PAGES for text in blocks(page, "yaml") if re.match(r"# [\w/]+\.yaml\n", text)
}
SHOWN = {command: page for page in PAGES for command in commands(page)}


def script_and_words(command: str) -> tuple[str, list[str]]:
    """The script that a command starts, directly or through a launcher, and the words it is given."""
    words = shlex.split(command)
    by_name = [i for i, word in enumerate(words[:-1]) if word in ("psa-pose", "psa_pose")]
    if by_name:
        at = by_name[0] + 1
        return f"tools/{words[at].replace('-', '_')}.py", words[at + 1 :]
    at = next(i for i, word in enumerate(words) if re.fullmatch(r"(tools|scripts)/\w+\.(py|sh)", word))
    return words[at], words[at + 1 :]


@cache
def help_of(script: str, kind: str = "") -> str:
    """What the script says of its options; kind: of a benchmark."""
    script = PASSED_ON.get(script, script)
    words = [*([kind] if kind else []), "--help"]
    if script.endswith(".py"):
        return run_here(REPOSITORY / script, *words).stdout
    # Another one would do its work instead.
    assert "--help" in (REPOSITORY / script).read_text(), f"{script} takes no options"
    return subprocess.run(["bash", script, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture(scope="module")
def workspace(people, tmp_path_factory):
    folder = make_workspace(people, tmp_path_factory.mktemp("readme") / "workspace")
    for name, text in CONFIGS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def results(workspace):
    """Result files of both protocols, as a page's F_results.json."""
    run_smoke(
        "python tools/test.py --cfg output/longer/config.yaml --checkpoint output/longer/best.pt",
        workspace,
        "--no-report OUTPUT_DIR output/quickstart",
    )


def run_smoke(command: str, folder: Path, more: str = "") -> str:
    """Run a command's smoke form in the workspace; the answer is what it said."""
    smoke = SMOKE[command]
    script, words = script_and_words(command)
    script, *words = [smoke.replace.get(word, word) for word in (script, *words)]
    words += overrides(smoke.add) + overrides(more)
    if script.endswith(".py"):
        done = run_here(script, *words, folder=folder)
    else:
        done = subprocess.run(
            ["bash", script, *words], cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, f"{shlex.join([script, *words])}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def smoke_cases():
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(c, marks=marks[s.slow], id=c) for c, s in SMOKE.items() if not s.not_run]


def test_the_pages_are_found():
    assert len(PAGES) >= 4
    assert len(SHOWN) > 25


def test_every_command_has_a_smoke_form():
    missing = [f"{page.relative_to(REPOSITORY)}: {command}" for command, page in SHOWN.items() if command not in SMOKE]
    assert not missing, "give each a line in SMOKE of tests/readme_commands.py:\n" + "\n".join(missing)
    stale = [command for command in SMOKE if command not in SHOWN]
    assert not stale, "no page shows these any more, take their lines out of SMOKE:\n" + "\n".join(stale)


@pytest.mark.parametrize("command", [c for c, s in SMOKE.items() if not s.not_run])
def test_a_smoke_form_keeps_the_options_and_keys_of_its_command(command):
    _, words = script_and_words(command)
    # A placeholder may become something else, an option or a key may not.
    for word in SMOKE[command].replace:
        assert not word.startswith("-")
        assert word not in all_keys()
    assert set(SMOKE[command].replace) <= {*words, *shlex.split(command)}


@pytest.mark.parametrize("command", SHOWN)
def test_options_and_config_keys_of_a_command_exist(command):
    script, words = script_and_words(command)
    assert (REPOSITORY / script).is_file()
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    if options:
        kind = words[0] if script == "tools/benchmark.py" else ""
        known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of(script, kind)))
        assert options <= known, f"{script} has no {sorted(options - known)}"
    keys = [word for word in words if re.fullmatch(r"[A-Z]+(_[A-Z]+)*(\.[A-Z_0-9]+)+", word)]
    assert set(keys) <= all_keys()
    config = next((b for a, b in pairwise(words) if a == "--cfg"), "")
    if (REPOSITORY / config).is_file():
        pairs = [word for a, b in pairwise(words) if a in all_keys() for word in (a, b)]
        load_config(REPOSITORY / config, pairs)


@pytest.mark.parametrize("command", smoke_cases())
def test_the_command_runs(command, workspace, request):
    smoke = SMOKE[command]
    if NEEDED and "download" in command:
        pytest.skip(f"{NEEDED} not installed")
    if "results.json" in command:
        request.getfixturevalue("results")
    if "weights.pth" in smoke.add and not (workspace / "weights.pth").exists():
        make_detector(workspace / "weights.pth")
    assert run_smoke(command, workspace).strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_python_of_a_page_runs(page, workspace):
    # One after the other, as they are read: a block may go on with what those before it made.
    path = workspace / "page.py"
    path.write_text("\n".join(blocks(page, "python")))
    if page.name == "CONTRIBUTING.md":
        # It adds to the dicts of the packages, which the tests after it must not see.
        done = subprocess.run([sys.executable, str(path)], cwd=workspace, capture_output=True, text=True, timeout=120)
    else:
        done = run_here(path, folder=workspace)
    assert done.returncode == 0, done.stderr


def test_yaml_of_the_pages_is_a_config_or_a_skeleton(workspace):
    texts = [text for page in PAGES for text in blocks(page, "yaml")]
    skeletons = [text for text in texts if "names:" in text]
    assert skeletons
    assert len(skeletons) + len(CONFIGS) == len(texts), "a config begins with its name: # mine.yaml"
    for text in skeletons:
        assert make_skeleton(yaml.safe_load(text), "README").flip_pairs
    for name in CONFIGS:
        load_config(workspace / name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_paths_links_and_keys_of_a_page_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)\)", text):
        if not link.startswith("https://"):
            assert (page.parent / link).exists(), f"{page}: there is no {link}"
    for path in re.findall(r"`((?:configs|psa_pose|tools|tests|scripts|data|output)/[\w./-]*)`", text):
        assert path.startswith(WRITTEN) or (REPOSITORY / path).exists(), f"{page}: there is no {path}"
    groups = "|".join(key for key, value in default_config().items() if isinstance(value, dict))
    known = all_keys() | {".".join(key.split(".")[:n]) for key in all_keys() for n in (1, 2)}
    for key in re.findall(rf"\b(?:{groups})(?:\.[A-Z_0-9]+)+\b", text):
        assert key.rstrip("_.") in known or any(k.startswith(key) for k in known), f"{page}: there is no key {key}"


@cache
def all_keys() -> frozenset[str]:
    def walk(node, prefix=""):
        for key, value in node.items():
            yield from walk(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]

    return frozenset(walk(default_config()))
