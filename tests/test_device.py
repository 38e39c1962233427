"""What a GPU is told, tried without one: torch keeps the settings also where no GPU reads them."""

import importlib.util
import os
import shutil

import pytest
import torch
from torch import nn

from psa_pose import device as module
from psa_pose.config import load_config
from psa_pose.data.loader import loader_workers
from psa_pose.device import (
    Backends,
    backends,
    channels_last,
    cores_of_process,
    describe_computing,
    describe_psa,
    no_triton,
    place,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def config(*words: str):
    return load_config("coco/hrnet/hrnet_w32_256x192", words)


@pytest.mark.parametrize("matmul", [False, True])
@pytest.mark.parametrize("conv", [False, True])
def test_torch_computes_as_it_is_told_and_then_as_before(matmul, conv):
    before = Backends.of_process()
    with Backends(matmul, conv, benchmark=True).applied():
        # Under its older names too, which disagreeing ones would make raise.
        assert torch.backends.cuda.matmul.allow_tf32 == matmul
        assert torch.backends.cudnn.allow_tf32 == conv
        assert torch.get_float32_matmul_precision() == ("high" if matmul else "highest")
        if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
            assert torch.backends.cuda.matmul.fp32_precision == ("tf32" if matmul else "ieee")
            assert torch.backends.cudnn.conv.fp32_precision == ("tf32" if conv else "ieee")
        assert torch.backends.cudnn.benchmark
        assert Backends.of_process() == Backends(matmul, conv, True)
    assert Backends.of_process() == before


def test_settings_are_put_back_after_an_error():
    before = Backends.of_process()
    with pytest.raises(KeyError), Backends(True, False, True).applied():
        raise KeyError
    assert Backends.of_process() == before


def test_the_defaults_are_torchs_but_for_the_benchmark_of_training():
    usual = Backends.of_process()
    assert not usual.benchmark
    for training in (True, False):
        with backends(config(), GPU, training):
            assert Backends.of_process() == Backends(usual.tf32_matmul, usual.tf32_conv, benchmark=training)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("chosen", [False, True])
def test_stated_settings_win_on_a_gpu_and_a_cpu_is_told_nothing(training, chosen):
    word = str(chosen).lower()
    cfg = config("GPU.TF32_MATMUL", word, "GPU.TF32_CONV", word, "GPU.CUDNN_BENCHMARK", word)
    before = Backends.of_process()
    with backends(cfg, CPU, training):
        assert Backends.of_process() == before
    with backends(cfg, GPU, training):
        assert Backends.of_process() == Backends(chosen, chosen, chosen)


def test_the_log_says_what_is_on():
    words = Backends(tf32_matmul=False, tf32_conv=True, benchmark=True).describe()
    assert words == "TF32 in matrix products off, in convolutions on, cudnn.benchmark on"


@pytest.fixture
def ampere(monkeypatch):
    """A machine on which Triton compiles."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "clang" else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.delenv("CC", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("place", "name", "value", "reason"),
    [
        (torch.version, "cuda", None, "no NVIDIA GPU"),
        (importlib.util, "find_spec", lambda _: None, "Triton is not installed"),
        (shutil, "which", lambda _: None, "Triton needs a C compiler; install gcc"),
        (torch.cuda, "get_device_capability", lambda _: (7, 5), "they need an Ampere GPU or a later one"),
    ],
)
def test_why_triton_does_not_run(ampere, place, name, value, reason):
    reason_now = no_triton.__wrapped__
    assert reason_now(GPU) == ""
    assert reason_now(CPU) == "no NVIDIA GPU"
    ampere.setattr(place, name, value)
    assert reason_now(GPU) == reason
    ampere.setenv("CC", "a compiler")
    assert (reason_now(GPU) == "") == ("compiler" in reason)


@pytest.mark.parametrize(
    ("words", "compiled", "triton", "said"),
    [
        ((), False, "", ["psa_p by its own kernels"]),
        (("MODEL.ATTENTION.SPATIAL", "eq3"), False, "", ["psa_p by its own kernels"]),
        (("GPU.FUSED_PSA", "false"), True, "x", ["psa_p by PyTorch's operators (GPU.FUSED_PSA is false)"]),
        ((), True, "x", ["psa_p by PyTorch's operators (the network is compiled)"]),
        ((), False, "no gcc", ["psa_p by PyTorch's operators (no gcc)"]),
        (("MODEL.ATTENTION.SPATIAL", "fig2"), False, "", []),
        (("MODEL.ATTENTION.DIRECT", "true"), False, "", []),
        (("MODEL.ATTENTION.NAME", "psa_s"), False, "", []),
    ],
)
def test_the_log_says_whether_psa_p_has_its_own_kernels_or_why_not(monkeypatch, words, compiled, triton, said):
    monkeypatch.setattr(module, "no_triton", lambda _: triton)
    cfg = config("MODEL.ATTENTION.NAME", "psa_p", *words)
    assert describe_psa(cfg, GPU, compiled) == said
    assert describe_psa(cfg, CPU, compiled) == []


@pytest.mark.parametrize("training", [False, True])
def test_the_line_of_a_gpu_names_all_of_it(monkeypatch, training):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    monkeypatch.setattr(module, "no_triton", lambda _: "")
    cfg = config("MODEL.ATTENTION.NAME", "psa_p", "TRAIN.COMPILE", "true", "TRAIN.PRECISION", "bf16")
    how = ["compiled", "psa_p by PyTorch's operators (the network is compiled)"]
    how = ["bf16", "channels-last", *(how if training else ["psa_p by its own kernels"])]
    said = describe_computing(cfg, GPU, "bf16", training)
    assert said == f"computing on 1 x H100: {', '.join([*how, Backends.of_process().describe()])}"


@pytest.mark.parametrize(
    ("stated", "precision", "cpu", "gpu"),
    [
        ("auto", "fp32", False, False),
        ("auto", "bf16", False, True),
        ("auto", "fp16", False, True),
        ("false", "bf16", False, False),
        ("true", "fp32", True, True),
    ],
)
def test_features_are_channels_last_as_stated_or_where_a_gpu_trains_in_half_precision(stated, precision, cpu, gpu):
    cfg = config("MODEL.CHANNELS_LAST", stated, "TRAIN.PRECISION", precision)
    assert (channels_last(cfg, CPU), channels_last(cfg, GPU)) == (cpu, gpu)
    weight = place(nn.Conv2d(4, 4, 3), cfg, CPU).weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == cpu


def test_workers_are_a_share_of_the_cores_up_to_16(monkeypatch):
    own = len(os.sched_getaffinity(0))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert cores_of_process() == own
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * own))
    assert cores_of_process() == loader_workers("auto") == 1
    for allowed, processes, workers in ((96, 8, 12), (192, 8, 16), (7, 2, 3)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=allowed: set(range(n)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert loader_workers("auto") == workers
    assert [loader_workers(stated) for stated in (0, 1, 40)] == [0, 1, 40]
