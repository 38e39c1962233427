"""Measure this machine's speed: python tools/benchmark.py attention|model|train|codec|data|eval|infer|threads ..."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from psa_pose.command_line import run_command
from psa_pose.config import load_config
from psa_pose.errors import ConfigError

Answer = tuple[Any, str]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Times are medians; compared works run alternately in one process.")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for add in (add_attention, add_model, add_train, add_codec, add_data, add_eval, add_infer, add_threads):
        kind = add(kinds)
        kind.add_argument("--json", type=Path, help="also write the figures to this file")
        kind.add_argument("--threads", type=int, default=0, help="torch's threads (default: as torch chooses)")
    args = parser.parse_args(argv)
    # The profiler that memory is read from talks on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

    import torch

    from psa_pose.files import write_json
    from psa_pose.threads import ThreadWaiting

    if args.threads:
        torch.set_num_threads(args.threads)
    with ThreadWaiting(torch.device("cpu"), print):
        content, text = args.run(args)
    # Under torchrun every process has measured; one says it.
    if os.environ.get("RANK", "0") != "0":
        return
    print(f"{text}\n\n{torch.get_num_threads()} torch threads, {args.rounds} rounds")
    if args.json:
        write_json(args.json, content)
        print(f"written to {args.json}")


def add_kind(kinds: Any, name: str, run: Any, rounds: int, text: str) -> argparse.ArgumentParser:
    kind = kinds.add_parser(name, help=text, description=text)
    kind.add_argument("--rounds", type=int, default=rounds, help="rounds of the alternation (%(default)s)")
    kind.set_defaults(run=run)
    return kind


def add_attention(kinds: Any) -> argparse.ArgumentParser:
    text = "attention blocks at the shapes of the pose networks, 256x192"
    kind = add_kind(kinds, "attention", run_attention, 15, text)
    kind.add_argument("--names", nargs="+", default=["psa_p", "psa_p:fig2", "psa_s"], help="blocks; psa_p:fig2 ...")
    kind.add_argument("--batch", type=int, default=4, help="images (%(default)s)")
    kind.add_argument("--channels-last", action="store_true")
    kind.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return kind


def run_attention(args: argparse.Namespace) -> Answer:
    from psa_pose.benchmark.attention import benchmark_attention, summary
    from psa_pose.device import choose_device
    from psa_pose.tables import format_records

    device = choose_device(args.device)
    rows = benchmark_attention(args.names, args.batch, args.rounds, device, args.channels_last)
    return rows, f"{format_records(rows)}\n\n{format_records(summary(rows))}"


def add_model(kinds: Any) -> argparse.ArgumentParser:
    kind = add_kind(kinds, "model", run_model, 15, "whole networks, all compared with the first config")
    kind.add_argument("configs", nargs="+", metavar="CONFIG[,KEY,value...]", help="config file and changes of its own")
    kind.add_argument("--batch", type=int, default=4, help="images (%(default)s)")
    kind.add_argument("--train", action="store_true", help="forward and backward instead of forward")
    return kind


def run_model(args: argparse.Namespace) -> Answer:
    from psa_pose.benchmark.model import compare_models
    from psa_pose.tables import format_records

    rows = compare_models(read_configs(args.configs), args.batch, args.rounds, args.train)
    return rows, format_records(rows)


def read_configs(names: Sequence[str], *common: str) -> dict[str, CfgNode]:
    """The configs by a short name: the file's, and the changes that not all of them have."""
    # A list has commas of its own: INPUT.SIZE,[192,256].
    words = [re.split(r",(?![^\[]*\])", name) for name in names]
    # Loaded first: a key without a value is an error there.
    loaded = [load_config(Path(file), [*common, *overrides]) for file, *overrides in words]
    changes = [list(zip(w[1::2], w[2::2], strict=True)) for w in words]
    configs = {}
    for (file, *_), own, cfg in zip(words, changes, loaded, strict=True):
        short = [",".join(change) for change in own if not all(change in other for other in changes)]
        name = ",".join([Path(file).stem, *short])
        if name in configs:
            raise ConfigError(f"two of the networks are called {name}; give each once, or rename a config file")
        configs[name] = cfg
    return configs


def add_train(kinds: Any) -> argparse.ArgumentParser:
    text = "whole training steps on the data of each config, all compared with the first"
    kind = add_kind(kinds, "train", run_training, 15, text)
    kind.add_argument("configs", nargs="+", metavar="CONFIG[,KEY,value...]", help="config file and changes of its own")
    kind.add_argument("--batch", type=int, default=4, help="persons (%(default)s)")
    return kind


def run_training(args: argparse.Namespace) -> Answer:
    from psa_pose.benchmark.train import compare_training
    from psa_pose.tables import format_records

    configs = read_configs(args.configs, "TRAIN.BATCH_SIZE", str(args.batch))
    rows = compare_training(configs, args.rounds)
    return rows, format_records(rows)


def add_codec(kinds: Any) -> argparse.ArgumentParser:
    kind = add_kind(kinds, "codec", run_codec, 15, "encoding and decoding a batch of persons")
    kind.add_argument("--batch", type=int, default=128, help="persons (%(default)s)")
    kind.add_argument("--size", choices=["256x192", "384x288"], default="384x288", help="of the crop (%(default)s)")
    kind.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return kind


def run_codec(args: argparse.Namespace) -> Answer:
    from psa_pose.benchmark.codec import benchmark_codecs
    from psa_pose.device import choose_device
    from psa_pose.tables import format_records

    rows = benchmark_codecs(args.batch, args.rounds, args.size, choose_device(args.device))
    return rows, format_records(rows)


def add_data(kinds: Any) -> argparse.ArgumentParser:
    kind = add_kind(kinds, "data", run_data, 7, "making samples in one process, from the data of a config")
    kind.add_argument("--cfg", type=Path, required=True, help="YAML config file")
    kind.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change")
    return kind


def run_data(args: argparse.Namespace) -> Answer:
    from psa_pose.benchmark.data import benchmark_data
    from psa_pose.benchmark.segmentation import benchmark_pictures
    from psa_pose.tables import format_records

    cfg = load_config(args.cfg, args.overrides)
    rows = (benchmark_pictures if cfg.TASK == "segmentation" else benchmark_data)(cfg, args.rounds)
    return rows, format_records(rows)


def add_eval(kinds: Any) -> argparse.ArgumentParser:
    kind = add_kind(kinds, "eval", run_eval, 3, "from predictions in memory to file and AP, of COCO val2017's size")
    kind.add_argument("--share", type=float, default=1.0, help="of val2017's size (%(default)s)")
    kind.add_argument("--check", action="store_true", help="compare with pycocotools, which takes half a minute")
    return kind


def run_eval(args: argparse.Namespace) -> Answer:
    from psa_pose.benchmark.eval import benchmark_eval

    row = benchmark_eval(args.rounds, args.share, args.check)
    return row, "\n".join(f"{name:15} {value:.3f}" for name, value in row.items())


def add_infer(kinds: Any) -> argparse.ArgumentParser:
    text = (
        "from a picture to people or labels: the stages, and ways to compute a network, all compared with plain PyTorch"
    )
    kind = add_kind(kinds, "infer", run_infer, 9, text)
    default = ["coco/simple_baseline/simple_baseline_r50_256x192", "coco/hrnet/hrnet_w32_256x192"]
    kind.add_argument("configs", nargs="*", default=default, metavar="CONFIG[,KEY,value...]", help="R50 and W32")
    kind.add_argument(
        "--batches", type=int, nargs="+", default=[1, 8], help="persons or pictures per call (%(default)s)"
    )
    kind.add_argument("--ways", nargs="+", help="such as folded+channels-last, compiled, onnxruntime (default: all)")
    kind.add_argument("--flip", action="store_true", help="with the flip test: twice the network")
    return kind


def run_infer(args: argparse.Namespace) -> Answer:
    from psa_pose.benchmark.infer import WAYS, benchmark_infer
    from psa_pose.benchmark.segmentation import WAYS as PICTURE_WAYS
    from psa_pose.benchmark.segmentation import benchmark_segment
    from psa_pose.tables import format_records

    configs = read_configs(args.configs)
    if len({cfg.TASK for cfg in configs.values()}) > 1:
        raise ConfigError("networks of people and of pictures cannot be compared; give configs of one TASK")
    segments = next(iter(configs.values())).TASK == "segmentation"
    run, known = (benchmark_segment, list(PICTURE_WAYS)) if segments else (benchmark_infer, list(WAYS))
    found = run(configs, args.batches, args.rounds, args.ways or known, args.flip)
    tables = [format_records(rows) for rows in (found["ways"], found["stages"]) if rows]
    skipped = [f"skipped {row['way']} of {row['network']}: {row['reason']}" for row in found["skipped"]]
    return found, "\n\n".join(tables + ["\n".join(skipped)] * bool(skipped))


def add_threads(kinds: Any) -> argparse.ArgumentParser:
    text = "how threads wait on a CPU: asleep, spinning, or as is chosen; and one alone; quiet and with a busy core"
    kind = add_kind(kinds, "threads", run_threads, 5, text)
    kind.add_argument("config", nargs="?", default="synthetic/quickstart", help="(%(default)s)")
    kind.add_argument("--batch", type=int, default=16, help="persons (%(default)s)")
    kind.add_argument("--seconds", type=float, default=3.0, help="of each way in a round (%(default)s)")
    kind.add_argument("--works", nargs="+", choices=["train", "predict"], default=["train", "predict"])
    return kind


def run_threads(args: argparse.Namespace) -> Answer:
    from psa_pose.benchmark.threads import benchmark_threads
    from psa_pose.tables import format_records

    rows = benchmark_threads(args.config, args.batch, args.rounds, args.seconds, args.works)
    return rows, format_records(rows)


if __name__ == "__main__":
    run_command(main)
