"""psa_p's kernels compile for a GPU with the arguments that they are launched with; no GPU is needed for that."""

import re
import subprocess

import pytest
import torch

from psa_pose.attention import fused, make_attention

FORWARD = ("pool", "gates", "look", "scale")
BACKWARD = ("slopes", "gates_back", "scale_back", "weights_back")


class Recorded:
    """In place of a kernel: writes down what it is launched with."""

    def __init__(self, kernel, launches):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        return lambda *args, **constants: self.launches.append((self.kernel, args, constants))


@pytest.fixture
def launches(monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed; it comes with PyTorch's CUDA builds for Linux")
    from psa_pose.attention import kernels, kernels_back

    found = []
    for names, module in ((FORWARD, kernels), (BACKWARD, kernels_back)):
        for name in names:
            monkeypatch.setattr(module, name, Recorded(getattr(module, name), found))
    return found


def compiled(kernel, args, constants, architecture):
    """For a launch as Triton does it: ones are constants, and it is told what is divisible by 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = dict(constants)
    options = {"num_warps": constants.pop("num_warps")}
    values = dict(zip(kernel.arg_names, [*args, *constants.values()], strict=True))
    assert list(values)[len(args) :] == list(constants)
    types = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
    signature, constexprs, attributes = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        value = values[name]
        if isinstance(value, torch.Tensor):
            signature[name], divisible = types[value.dtype], value.data_ptr() % 16 == 0
        elif name in constants or value == 1:
            signature[name], constexprs[place,], divisible = "constexpr", value, False
        else:
            signature[name], divisible = "i32", value % 16 == 0
        if divisible:
            attributes[place,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=constexprs, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def spilled(ptx, architecture, path):
    """Bytes that do not fit into registers, as the assembler counts them."""
    from triton.backends.nvidia.compiler import get_ptxas

    path.write_text(ptx)
    target = re.search(r"\.target (\w+)", ptx).group(1)
    command = [get_ptxas(architecture).path, "-v", f"-arch={target}", str(path), "-o", "/dev/null"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return int(re.search(r"(\d+) bytes spill stores", told).group(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "layout", "architecture"),
    [
        (16, torch.contiguous_format, 80),
        (48, torch.channels_last, 90),
        (96, torch.contiguous_format, 90),
        (192, torch.channels_last, 80),
        (fused.WIDEST, torch.channels_last, 90),
        (fused.WIDEST, torch.channels_last, 80),
    ],
)
def test_kernels_compile_and_their_tiles_fit_into_registers(
    launches, channels, layout, architecture, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    block = make_attention("psa_p", channels)
    weights = [gate.weight for gate in (block.channel.query, block.channel.value, block.channel.expand)]
    x = torch.zeros(2, channels, 24, 18, dtype=torch.bfloat16).contiguous(memory_format=layout).requires_grad_()
    output = fused.fused_psa_p(x, weights, [block.spatial.query.weight, block.spatial.value.weight])
    output.backward(torch.zeros_like(output))
    assert [kernel.fn.__name__ for kernel, _, _ in launches] == [*FORWARD, *BACKWARD]
    spills = {
        kernel.fn.__name__: spilled(
            compiled(kernel, *launch, architecture).asm["ptx"], architecture, tmp_path / "kernel"
        )
        for kernel, *launch in launches
    }
    assert spills == dict.fromkeys(spills, 0)
