"""BatchNorm folded into the convolution before it: the same function in evaluation mode, with fewer passes over memory.

With the running mean m and variance v, scale g and offset b of the norm, g (W x + c - m) / sqrt(v + eps) + b is a
convolution of the weights W g / sqrt(v + eps) and the bias (c - m) g / sqrt(v + eps) + b (Jacob et al., arXiv
1712.05877, equation 14).
"""

from __future__ import annotations

import copy

from torch import fx, nn
from torch.nn.utils import fusion

Convolution = nn.Conv2d | nn.ConvTranspose2d


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of the network in evaluation mode, without gradients, whose norms behind a convolution are folded into it.

    The classes and names of all other modules stay; a folded norm becomes an identity, and a norm that follows no
    convolution (a pre-activation's) remains. Answers are equal up to rounding. The model itself is not changed.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for convolution, norm in _pairs(folded):
        _fuse(folded.get_submodule(convolution), folded.get_submodule(norm))
        folded.set_submodule(norm, nn.Identity())
    return folded


def _fuse(convolution: nn.Module, norm: nn.Module) -> None:
    """Change a convolution's weights so that its answer is what the norm would make of it."""
    assert isinstance(convolution, Convolution)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    convolution.weight, convolution.bias = fusion.fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=isinstance(convolution, nn.ConvTranspose2d),
    )
    convolution.requires_grad_(False)


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of the convolutions that are called once and feed a norm and nothing else, each with that norm's."""
    graph = _Tracer().trace(model)
    calls = [node for node in graph.nodes if node.op == "call_module"]
    targets = [str(node.target) for node in calls]
    pairs = []
    for norm in calls:
        source = norm.args[0]
        if not isinstance(model.get_submodule(str(norm.target)), nn.BatchNorm2d) or not isinstance(source, fx.Node):
            continue
        if source.op != "call_module" or not isinstance(model.get_submodule(str(source.target)), Convolution):
            continue
        once = targets.count(str(source.target)) == targets.count(str(norm.target)) == 1
        if once and len(source.users) == 1:
            pairs.append((str(source.target), str(norm.target)))
    return pairs


class _Tracer(fx.Tracer):
    """Looks into modules that hold a norm, and calls all others as they are: their code need not be traceable."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) or not any(isinstance(part, nn.BatchNorm2d) for part in m.modules())
