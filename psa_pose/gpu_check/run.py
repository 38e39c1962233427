"""All lines, one after the other, whatever becomes of each; their files are written as they come."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from psa_pose.device import choose_device
from psa_pose.errors import ConfigError, closest
from psa_pose.gpu_check import machine, numerics, speed, start_and_save, steps
from psa_pose.gpu_check.bench import NETWORKS, Bench
from psa_pose.gpu_check.lines import FAIL, Line, left_out, write_lines
from psa_pose.gpu_check.processes import agreement, survival
from psa_pose.run_log import Info

Check = Callable[[Bench], Iterator[Line]]

CHECKS: dict[str, Check] = {
    "machine": machine.machine_lines,
    "forward": numerics.forward_lines,
    "attention": numerics.attention_lines,
    "kernels": numerics.kernel_lines,
    "codecs": numerics.codec_lines,
    "sync": steps.sync_lines,
    "captured": steps.captured_lines,
    "launches": steps.launch_lines,
    "psa": speed.psa_lines,
    "persons": speed.persons_lines,
    "loader": speed.loader_lines,
    "start": start_and_save.start_lines,
    "save": start_and_save.save_lines,
    "fp16": steps.infinity_lines,
    "sharing": agreement.sharing_lines,
    "scaling": agreement.scaling_lines,
    "survival": survival.survival_lines,
    "decode": numerics.decode_lines,
    "graph": steps.graph_lines,
    # Last, because compilation takes minutes.
    **{f"compiled_{name}": partial(speed.compiled_lines, network=name) for name in NETWORKS},
}


def run_gpu_check(folder: Path, names: Sequence[str], minutes: float, info: Info) -> list[Line]:
    """The lines of the checks of these names, all of them if there are none, and of what was left in memory.

    folder: of gpu_check.json, gpu_check.md and what is measured on. minutes: after them no further check is begun.
    info: is told each line. Raises ConfigError for a name that is none.
    """
    for name in names:
        if name not in CHECKS:
            raise ConfigError(f"there is no check {name!r}; {closest(name, CHECKS)}")
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(choose_device("auto"), torch.cuda.device_count(), folder.resolve())
    found, shared = machine.facts(), machine.shared_memory()
    described = machine.describe(found)
    info(described)
    begun = time.monotonic()
    checks = {name: CHECKS[name] for name in names or CHECKS}
    # It is looked at whatever the time.
    checks["memory"] = lambda bench: machine.memory_lines(bench, shared)
    lines: list[Line] = []
    for name, check in checks.items():
        late = name != "memory" and time.monotonic() - begun > 60 * minutes
        for line in [left_out(name, f"the {minutes:g} minutes are over")] if late else _lines(name, check, bench):
            info(line.text())
            lines.append(line)
        machine.free_memory(bench.device)
        write_lines(folder, lines, found, described, time.monotonic() - begun)
    return lines


def _lines(name: str, check: Check, bench: Bench) -> Iterator[Line]:
    """A check's lines; an error in it is one more, which failed, and stands in errors.txt."""
    try:
        yield from check(bench)
    except Exception as error:
        with (bench.folder / "errors.txt").open("a", encoding="utf-8") as file:
            file.write(f"{name}\n{traceback.format_exc()}\n")
        reason = (str(error).strip().splitlines() or [""])[0]
        yield Line(name, FAIL, note=f"{type(error).__name__}: {reason:.300}; see {bench.folder / 'errors.txt'}")
