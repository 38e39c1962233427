"""A study of several blocks over seeds at equal budget: every run, then the table, the plots and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from psa_pose.checkpoints import load_checkpoint, load_weights
from psa_pose.config import dump_config, load_config
from psa_pose.config.skeleton import build_skeleton
from psa_pose.files import read_json, write_json, write_text
from psa_pose.paper.jobs import Write, run_jobs
from psa_pose.paper.plan import Job, Plan, run_steps
from psa_pose.paper.reproduce import finish
from psa_pose.paper.results import read_result, result_list
from psa_pose.study.gates import BodyGates, gate_history, gates_on_the_body, with_constant_gates
from psa_pose.study.page import RunGates, differences_chart, gates_sheet, scores_chart, study_page, study_table
from psa_pose.study.scores import RunScores, compare_blocks, run_scores
from psa_pose.tables import format_columns, markdown_table
from psa_pose.tasks import build_task
from psa_pose.tasks.pose import PoseTask
from psa_pose.training.output_dir import LAST
from psa_pose.visualization.draw import write_picture

_CONSTANT = "constant_gates.json"


@dataclass(frozen=True)
class Study:
    """What is compared.

    config: file of the network and its training.
    blocks: attention names, a PSA block's spatial form after a colon; the others are compared with the first.
    seeds: of the runs of each block.
    out: folder of the runs and tables.
    overrides: "KEY", "value", ... of every run.
    """

    config: Path
    blocks: Sequence[str]
    seeds: Sequence[int]
    out: Path
    overrides: Sequence[str] = ()


def run_study(study: Study, write: Write) -> None:
    """Train and test what is not complete yet; print the table and write study.json, study.md, study.html and
    the plots study.svg and, where joints are scored, differences.svg.

    Raises PsaPoseError where runs failed, and Interrupted where it was stopped; the same call goes on.
    """
    # Seed by seed, so that an early look at the results compares like with like.
    jobs = {(block, seed): _job(study, block, seed) for seed in study.seeds for block in study.blocks}
    failures: dict[Path, str] = {}
    run_jobs(list(jobs.values()), failures, write)
    if not failures:
        _write_study(study, {b: [jobs[b, seed] for seed in study.seeds] for b in study.blocks}, write)
    follow = "tools/compare.py on the result lists of two runs"
    finish(list(jobs.values()), failures, f"folder {study.out}", follow, write)


def _job(study: Study, block: str, seed: int) -> Job:
    folder = study.out / f"{block.replace(':', '_')}_seed{seed}"
    name, _, spatial = block.partition(":")
    keys = ["MODEL.ATTENTION.NAME", name, *(["MODEL.ATTENTION.SPATIAL", spatial] if spatial else [])]
    keys = [*study.overrides, *keys, "SEED", str(seed), "OUTPUT_DIR", str(folder)]
    steps = run_steps(Plan(Path(), study.out), study.config, folder, keys)
    return Job(f"{block}, seed {seed}", folder, load_config(study.config, keys), 1, steps, 1.0)


def _write_study(study: Study, jobs: Mapping[str, Sequence[Job]], write: Write) -> None:
    blocks = compare_blocks({block: [_scores(job) for job in of_block] for block, of_block in jobs.items()})
    gates = {block: [_gates(job, write) for job in of_block] for block, of_block in jobs.items()}
    gates = {block: of_block for block, of_block in gates.items() if of_block[0].history}
    bodies = {block: body for block in gates if (body := _body(jobs[block][0])) is not None}
    header, lines = study_table(blocks, gates)
    runs = {block: [{"config": dump_config(job.cfg)} for job in of_block] for block, of_block in jobs.items()}
    content = {"seeds": study.seeds, "rows": [asdict(b) for b in blocks], "gates": _plain(gates, bodies), "runs": runs}
    write_json(study.out / "study.json", content)
    write_text(study.out / "study.md", markdown_table(header, lines) + "\n")
    write_text(study.out / "study.svg", scores_chart(blocks))
    chart = differences_chart(blocks)
    if chart:
        write_text(study.out / "differences.svg", chart)
    sheets = {block: gates_sheet(body, build_skeleton(jobs[block][0].cfg)) for block, body in bodies.items()}
    for block, sheet in sheets.items():
        write_picture(study.out / f"gates_{block.replace(':', '_')}.png", sheet)
    write_text(study.out / "study.html", study_page(blocks, gates, bodies, sheets, len(study.seeds)))
    write(f"\npercent, mean ± standard deviation over {len(study.seeds)} seeds; differences from {study.blocks[0]!r}\n")
    write(f"{format_columns(header, lines, left=len(header), rule=False)}\n\n")


def _scores(job: Job) -> dict[str, RunScores]:
    """Of each protocol."""
    lsp = job.cfg.DATASET.FORMAT == "lsp"
    return {e["protocol"]: run_scores(result_list(job.folder, e), lsp) for e in _evaluations(job)}


def _evaluations(job: Job) -> list[dict[str, Any]]:
    result = read_result(job.folder)
    assert result is not None, "the job is complete"
    return result["evaluations"]


def _gates(job: Job, write: Write) -> RunGates:
    """What became of a run's spatial gates in training, and its score with and without them."""
    history, path = gate_history(job.folder), job.folder / _CONSTANT
    if history and not path.exists():
        write(f"{job.name}: tested with constant gates\n")
        task, model = _trained(job)
        (test_set,) = task.test_sets(lambda _: None, annotated=True)
        constant = with_constant_gates(model)
        assert constant is not None
        scores = [task.evaluate(m, test_set, lambda: None, lambda _: None).score for m in (model, constant)]
        write_json(path, {"score": scores[0], "constant": scores[1]})
    found = read_json(path, "file") if history else {"score": 0.0, "constant": 0.0}
    return RunGates(history, 100 * found["score"], 100 * found["constant"])


def _body(job: Job) -> BodyGates | None:
    """Where on the body the gates of a run look; None for a skeleton without shoulders or hips."""
    task, model = _trained(job)
    (test_set,) = task.test_sets(lambda _: None, annotated=True)
    if not {"left_shoulder", "right_shoulder", "left_hip", "right_hip"} <= set(task.skeleton.names):
        return None
    return gates_on_the_body(task, model, test_set.dataset, task.skeleton)


def _trained(job: Job) -> tuple[PoseTask, nn.Module]:
    """The network that was tested: the weights after the last epoch."""
    task, checkpoint = build_task(job.cfg), job.folder / LAST
    assert isinstance(task, PoseTask), "a study is of pose networks"
    model = task.build_model().eval()
    load_weights(model, load_checkpoint(checkpoint)["model"], checkpoint)
    return task, model


def _plain(gates: Mapping[str, Sequence[RunGates]], bodies: Mapping[str, BodyGates]) -> dict[str, Any]:
    """For JSON; of the bodies what is at the joints."""
    return {
        block: {
            "runs": [asdict(run) | {"history": {str(k): v for k, v in run.history.items()}} for run in of_block],
            "at_joints": {name: values.tolist() for name, values in bodies[block].at_joints.items()}
            if block in bodies
            else {},
        }
        for block, of_block in gates.items()
    }
