"""A task whose loss is a mean over unevenly many labelled items: one gradient in any number of parts and processes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from psa_pose.distributed import ddp_options, rank
from psa_pose.training.step import TrainState, forward_and_backward
from tests.processes import in_processes

SAMPLES, CLASSES, ITEMS, IGNORED = 6, 3, 5, 255


class LabelTask:
    """Classes of the items of a sample, of which few or all are labelled. The mean has a pseudo-count, as RMI's has."""

    def loss_size(self, targets):
        return (targets[0] != IGNORED).sum()

    def loss(self, outputs, targets, size):
        return F.cross_entropy(outputs, targets[0], ignore_index=IGNORED, reduction="sum") / (size + 1)


def make_network():
    torch.manual_seed(0)
    return nn.Conv1d(4, CLASSES, 1)


def samples(rank=0, processes=1):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(SAMPLES, 4, ITEMS, generator=generator)
    labels = torch.randint(CLASSES, (SAMPLES, ITEMS), generator=generator)
    for row in range(SAMPLES):
        labels[row, : row % ITEMS] = IGNORED
    return images.chunk(processes)[rank], labels.chunk(processes)[rank]


def gradient(parts, rank=0, processes=1):
    network = make_network()
    called = DistributedDataParallel(network, **ddp_options(parts)) if processes > 1 else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    state = TrainState(network, called, [], optimizer, torch.amp.GradScaler("cpu", enabled=False), None)
    images, labels = samples(rank, processes)
    loss = forward_and_backward(LabelTask(), state, images, (labels,), "fp32", parts)
    return loss, network.weight.grad.clone()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    gradients = lambda: [gradient(parts, rank(), 2) for parts in (1, 2, 3)]  # noqa: E731
    return in_processes(gradients, tmp_path_factory.mktemp("two"))


def expected():
    network = make_network()
    images, labels = samples()
    loss = F.cross_entropy(network(images), labels, ignore_index=IGNORED, reduction="sum")
    loss = loss / ((labels != IGNORED).sum() + 1)
    loss.backward()
    return loss.detach(), network.weight.grad


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_have_the_gradient_of_the_mean_over_all_labelled_items(parts):
    torch.testing.assert_close(gradient(parts), expected(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_so_have_two_processes_with_unequally_many(of_two_processes, parts):
    (loss, whole), answers = expected(), [of_two_processes[rank][parts - 1] for rank in (0, 1)]
    for _, grad in answers:
        torch.testing.assert_close(grad, whole, rtol=1e-5, atol=1e-7)
    # What is logged is the mean over processes.
    torch.testing.assert_close((answers[0][0] + answers[1][0]) / 2, loss)
