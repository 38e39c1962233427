"""GPU.CUDA_GRAPHS: what trains by replaying CUDA graphs, and what it needs."""

import pytest
import torch
from torch import nn

from psa_pose.config import load_config
from psa_pose.cuda_graphs import CudaGraphs
from psa_pose.device import cuda_graphs, describe_computing
from psa_pose.errors import ConfigError
from psa_pose.training.setup import wrap

CPU = torch.device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="captures CUDA graphs, which needs a GPU")


def test_gradients_that_would_be_added_up_are_refused():
    words = ["TRAIN.ACCUMULATE", "2", "GPU.CUDA_GRAPHS", "true"]
    with pytest.raises(ConfigError, match="whose gradients cannot be added up"):
        load_config("synthetic/quickstart", words)


def test_a_cpu_reads_nothing_of_it():
    cfg, model = load_config("synthetic/quickstart", ["GPU.CUDA_GRAPHS", "true"]), nn.Linear(2, 2)
    assert wrap(cfg, model, CPU) is model
    assert "CUDA graphs" not in describe_computing(cfg, CPU, "fp32", training=True)
    assert cuda_graphs(cfg, torch.device("cuda", 0))


def test_an_evaluation_runs_the_network_as_it_is():
    network = nn.BatchNorm2d(3)
    images = torch.randn(4, 3, 2, 2)
    assert torch.equal(CudaGraphs(network).eval()(images), network.eval()(images))


class Network(nn.Module):
    """Layers with buffers, randomness, two outputs, and a parameter that has no part in them."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)
        self.dropout, self.unused = nn.Dropout(dropout), nn.Parameter(torch.zeros(2))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.norm(self.first(images)).relu()
        return self.last(self.dropout(features)), features


def trained(network: nn.Module, called: nn.Module, precision: torch.dtype, shapes: list[int]) -> list[float]:
    optimizer, losses = torch.optim.SGD(network.parameters(), 0.1, 0.9), []
    generator = torch.Generator("cuda").manual_seed(0)
    for images in shapes:
        batch = torch.randn(images, 3, 12, 10, device="cuda", generator=generator)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", precision, enabled=precision != torch.float32):
            maps, features = called(batch)
        loss = maps.float().square().mean() + features.float().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@GPU
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_from_graphs_is_the_one_of_launches(precision, compiled):
    """Weights, statistics and losses, also over a short batch in between; and the two outputs."""
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(Network().cuda())
    shapes = [4, 4, 2, 4, 4]
    expected = trained(networks[0], networks[0], precision, shapes)
    found = trained(networks[1], CudaGraphs(networks[1], compiled), precision, shapes)
    torch.testing.assert_close(found, expected, rtol=2e-2 if compiled else 1e-4, atol=0)
    if not compiled:
        torch.testing.assert_close(networks[1].state_dict(), networks[0].state_dict(), rtol=1e-4, atol=1e-5)
    assert networks[1].unused.grad is None


@GPU
def test_randomness_goes_on_as_if_nothing_had_been_captured_and_differs_from_step_to_step():
    network = Network(0.5).cuda()
    called, images = CudaGraphs(network), torch.ones(4, 3, 12, 10, device="cuda")
    torch.manual_seed(0)
    before = torch.cuda.get_rng_state()
    first = called(images)[0].clone()
    assert not torch.equal(torch.cuda.get_rng_state(), before)
    assert not torch.equal(called(images)[0], first)
