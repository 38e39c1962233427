"""The same figures on a GPU as on a CPU, in every precision: a network, the attention blocks, the codecs, the crops."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from psa_pose.attention import make_attention
from psa_pose.attention.polarized import SPATIAL_FORMS
from psa_pose.codecs import CODECS, make_codec
from psa_pose.data.dataset import make_batch
from psa_pose.data.device_decode import batch_maker, decode_on_device
from psa_pose.device import Backends, autocast, no_triton
from psa_pose.gpu_check.bench import NETWORKS, Bench
from psa_pose.gpu_check.lines import Line, at_most, holds, left_out
from psa_pose.models import build_model
from psa_pose.models.blocks import BasicBlock, Bottleneck
from psa_pose.tasks import build_task

# fp32 without TF32, TF32, and autocast to bf16.
PRECISIONS = ("fp32", "tf32", "bf16")
# Largest difference in units of the largest value. A CPU's bf16 differs from its fp32 by 5e-2 in `steady_network`'s W32
# and by up to 3e-2 in the blocks (there in gradients, and in the written order alike); TF32 has three bits more.
NETWORK_LIMITS = {"fp32": 1e-4, "tf32": 3e-2, "bf16": 0.15}
BLOCK_LIMITS = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 6e-2}
BLOCKS = [*((n, form) for n in ("psa_p", "psa_s", "psa_s_plain", "psa_spatial") for form in SPATIAL_FORMS)]
BLOCKS += [("psa_channel", "")]
# Channels and sides of HRNet-W48's features at 384x288, and the widest of ResNet-50.
FEATURES = ((48, 96, 72), (96, 48, 36), (192, 24, 18), (384, 12, 9), (512, 12, 9))
REPEATED = 10
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
CODEC_LIMIT = 1e-3
CROPS = 64
# Mean difference in grey levels; a GPU's decoder brings colours to the size of the picture in another way.
CROP_LIMITS = {"cpu": 0.1, "cuda": 2.0}


def backends_of(precision: str) -> Backends:
    """How products and convolutions of fp32 numbers are computed in one of PRECISIONS."""
    tf32 = precision == "tf32"
    return Backends(tf32, tf32, benchmark=False)


def forward_lines(bench: Bench) -> Iterator[Line]:
    """W32 forward, CPU against GPU, in each precision."""
    for precision in PRECISIONS:
        name = f"W32 forward, CPU against GPU, {precision}"
        if not bench.gpu:
            yield left_out(name, "no GPU")
            continue
        torch.manual_seed(0)
        images = torch.randn(2, 3, 256, 192)
        config, words = NETWORKS["W32"]
        model = steady_network(build_model(bench.config(config, *words)), images)
        difference = forward_difference(model, images, bench.device, precision)
        yield at_most(name, difference, NETWORK_LIMITS[precision], note="largest difference / largest value")


@torch.no_grad()
def steady_network(model: nn.Module, images: Tensor) -> nn.Module:
    """The untrained model in evaluation mode, with statistics of these images and small residual branches.

    With BatchNorm's initial weights, a hundred random blocks make a rounding difference ten times as large.
    """
    for module in model.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            nn.init.constant_((module.bn3 if isinstance(module, Bottleneck) else module.bn2).weight, 0.25)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(images)
    return model.eval()


@torch.no_grad()
def forward_difference(model: nn.Module, images: Tensor, device: torch.device, precision: str) -> float:
    """Between the model's maps on the CPU in fp32 and on the device in a precision, in units of the largest value."""
    expected = model(images)
    with backends_of(precision).applied(), autocast(precision, device):
        found = copy.deepcopy(model).to(device)(images.to(device))
    return relative(found.float().cpu(), expected)


def attention_lines(bench: Bench) -> Iterator[Line]:
    """Every PSA form against its written order in fp32: output and gradients, in each precision and layout."""
    for precision in PRECISIONS:
        name = f"PSA, every form against `direct`, forward and gradients, {precision}"
        if precision == "tf32" and not bench.gpu:
            yield left_out(name, "a CPU has no TF32")
            continue
        worst, where = 0.0, ""
        for layout in LAYOUTS:
            for block, form in BLOCKS:
                difference = block_difference(block, form, layout, bench.device, precision)
                # A difference that is no number is the worst.
                if not difference <= worst:
                    worst, where = difference, f"{block} {form}".strip() + f", {layout}"
        note = f"{len(BLOCKS)} forms, 2 layouts, {bench.device.type}; worst: {where}; difference / largest value"
        yield at_most(name, worst, BLOCK_LIMITS[precision], note=note)


def kernel_lines(bench: Bench) -> Iterator[Line]:
    """psa_p's own kernels on features of whole networks: against the written order, and against themselves."""
    names = (f"psa_p's kernels against `direct`, {len(FEATURES)} widths, fp32", f"psa_p's kernels, {REPEATED} runs")
    if not bench.gpu:
        yield from (left_out(name, "no GPU") for name in names)
        return
    reason = no_triton(bench.device)
    if reason:
        yield from (left_out(name, reason) for name in names)
        return
    found = [block_difference("psa_p", "eq3", way, bench.device, "fp32", f) for f in FEATURES for way in LAYOUTS]
    # max() would pass over what is no number.
    worst = torch.tensor(found).max().item()
    yield at_most(names[0], worst, BLOCK_LIMITS["fp32"], note="forward and gradients; difference / largest value")
    apart = [str(feature) for feature in FEATURES if not same_every_time(feature, bench.device)]
    yield holds(names[1], not apart, ", ".join(apart) or "equal to the bit", "equal to the bit")


def same_every_time(feature: tuple[int, int, int], device: torch.device) -> bool:
    """Whether psa_p's output and gradients of 16 such features (C, H, W) are the same to the bit in every run."""
    torch.manual_seed(0)
    block = make_attention("psa_p", feature[0]).to(device)
    x = torch.randn(16, *feature, device=device).contiguous(memory_format=torch.channels_last)
    weight = torch.randn_like(x)
    first = _answers(block, x, weight, "fp32")
    for _ in range(REPEATED - 1):
        block.zero_grad()
        found = _answers(block, x, weight, "fp32")
        if not all(torch.equal(found[key], first[key]) for key in first):
            return False
    return True


def block_difference(
    block: str,
    form: str,
    layout: str,
    device: torch.device,
    precision: str,
    feature: tuple[int, int, int] = (48, 16, 12),
) -> float:
    """The largest of output, input gradient and weight gradients, between ours in a precision and `direct` in fp32."""
    torch.manual_seed(0)
    options = {"spatial": form} if form else {}
    ours, direct = (
        make_attention(block, feature[0], direct=written, **options).to(device) for written in (False, True)
    )
    direct.load_state_dict(ours.state_dict())
    x = torch.randn(4, *feature, device=device).contiguous(memory_format=LAYOUTS[layout])
    weight = torch.randn_like(x)
    found, expected = _answers(ours, x, weight, precision), _answers(direct, x, weight, "fp32")
    # max() would pass over what is no number.
    return torch.tensor([relative(found[key], expected[key]) for key in expected]).max().item()


def _answers(block: nn.Module, x: Tensor, weight: Tensor, precision: str) -> dict[str, Tensor]:
    """The output, and the gradients of its product with `weight`."""
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with backends_of(precision).applied():
        with autocast(precision, x.device):
            output = block(leaf)
        (output.float() * weight).sum().backward()
    gradients = {key: p.grad for key, p in block.named_parameters() if p.grad is not None}
    assert leaf.grad is not None
    return {"output": output.detach(), "input": leaf.grad, **gradients}


def codec_lines(bench: Bench) -> Iterator[Line]:
    """Codecs, CPU against GPU: what each encodes, and the keypoints that it decodes from noisy maps."""
    for name in CODECS:
        title = f"codec {name}, CPU against GPU"
        if bench.gpu:
            note = "decoded keypoints, crop pixels; encoded maps are within 1e-5"
            yield at_most(title, codec_difference(name, bench.device), CODEC_LIMIT, "px", note)
        else:
            yield left_out(title, "no GPU")


def codec_difference(name: str, device: torch.device) -> float:
    """Largest distance of decoded keypoints, crop pixels; infinite where the encoded maps differ by more than 1e-5."""
    generator = torch.Generator().manual_seed(0)
    codec = make_codec(name, (192, 256), (48, 64))
    joints = torch.rand(32, 17, 2, generator=generator) * torch.tensor([191.0, 255.0])
    visible = torch.ones(32, 17)
    targets, weights = codec.encode(joints, visible)
    for ours, theirs in zip(codec.encode(joints.to(device), visible.to(device)), (targets, weights), strict=True):
        if not (ours.cpu() - theirs).abs().max() <= 1e-5:
            return float("inf")
    maps = targets + 0.02 * torch.randn(targets.shape, generator=generator)
    return (codec.decode(maps.to(device))[0].cpu() - codec.decode(maps)[0]).abs().max().item()


def decode_lines(bench: Bench) -> Iterator[Line]:
    """LOADER.DEVICE_DECODE: the mean difference of grey levels; decoders and interpolations are not the same."""
    levels, largest = decode_difference(bench)
    note = f"{CROPS} crops, decoded on the {bench.device.type}; largest difference of a pixel {largest:.0f}"
    yield at_most(
        "DEVICE_DECODE against the plain way, mean difference",
        levels,
        CROP_LIMITS[bench.device.type],
        "grey levels",
        note,
    )


def decode_difference(bench: Bench) -> tuple[float, float]:
    """Mean and largest difference of grey levels between crops of both ways."""
    config, words = next(iter(bench.networks.values()))
    dataset: Any = build_task(bench.config(config, *words)).train_set(lambda _: None)
    keys = [(0, row) for row in range(CROPS)]
    plain = make_batch(dataset, keys)
    encoded = batch_maker(True, bench.device)(dataset, keys)
    found = decode_on_device(encoded, dataset, bench.device).crops.cpu()
    apart = (found.int() - plain.crops.int()).abs().float()
    return apart.mean().item(), apart.max().item()


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference in units of the largest expected value."""
    scale = expected.double().abs().max().clamp_min(1e-6)
    return ((found.double() - expected.double()).abs().max() / scale).item()
