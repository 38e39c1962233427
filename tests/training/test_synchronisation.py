"""A whole training step on a pretended GPU: nothing in it makes the host wait for the device.

Where there is no GPU autograd runs no backward pass on a fake one. So the step is taken twice: on the fake GPU, where
every copy between host and device shows, with gradients that come from nowhere; and on the meta device, with the
backward pass. Either refuses to read a number that it does not have.
"""

import pytest
import torch
from torch import nn

from psa_pose.attention import make_attention
from psa_pose.config import load_config
from psa_pose.data.dataset import Batch
from psa_pose.models.blocks import BasicBlock, Bottleneck
from psa_pose.models.build import build_model
from psa_pose.segmentation.data.dataset import SegmentationBatch
from psa_pose.tasks.pose import PoseTask
from psa_pose.tasks.segmentation import SegmentationTask
from psa_pose.training import setup
from psa_pose.training.step import train_step
from tests.fake_gpu import GPU, Waits, pretend

# A deep copy asks a fake tensor where its data lies: nowhere, which is what it wants to know.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

# Averaged, clipped and in two parts.
RECIPE = ["TRAIN.EMA", "0.99", "TRAIN.CLIP_GRAD_NORM", "1.0", "TRAIN.ACCUMULATE", "2", "TRAIN.BATCH_SIZE", "4"]


def pose_task(device, codec="udp_gaussian"):
    words = ["INPUT.SIZE", "[64, 64]", "MODEL.CHANNELS_LAST", "False", "CODEC.NAME", codec, "CODEC.SIGMA", "0"]
    return PoseTask(load_config("synthetic/quickstart", [*RECIPE, *words]), device)


def persons():
    crops = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
    return Batch(crops, torch.zeros(4, 17, 2), torch.ones(4, 17), torch.zeros(4, 2, 3), torch.arange(4), ("",) * 4)


def small_network(device):
    """The kinds of layers that a pose network has, with both released blocks of attention."""
    with device:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            BasicBlock(8, 8, 2, lambda channels: make_attention("psa_p", channels)),
            Bottleneck(8, 8, 2, lambda channels: make_attention("psa_s", channels)),
            nn.ConvTranspose2d(32, 17, 4, 2, 1),
        )


def waits_of_steps(task, model, batch):
    """Of the second step; the first one makes the optimiser's state and sends what is constant."""
    state, waits = setup.build_state(task, model), Waits()
    state.train_mode()
    for step in range(2):
        waits.found.clear()
        with waits:
            loss, _ = train_step(task, state, batch, step, 1e-3)
    assert loss.device == task.device
    assert all(p.grad is not None for p in model.parameters())
    return waits.found


@pytest.fixture
def fake_gpu(monkeypatch):
    """Nothing is computed in it, and `backward` gives the parameters that it is told gradients from nowhere."""
    owners: list[nn.Module] = []

    def backward(loss):
        for p in owners[0].parameters():
            p.grad = torch.empty_like(p)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with pretend():
        yield owners


def test_a_step_with_clipping_and_average_waits_for_nothing(fake_gpu):
    fake_gpu.append(small_network(GPU))
    assert waits_of_steps(pose_task(GPU), fake_gpu[0], persons()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synthetic/quickstart", "coco/hrnet/hrnet_w32_256x192"])
def test_a_step_of_a_whole_network_waits_for_nothing(fake_gpu, name):
    words = ["INPUT.SIZE", "[64, 64]", "CODEC.SIGMA", "0", "MODEL.CHANNELS_LAST", "False"]
    task = PoseTask(load_config(name, [*RECIPE, *words, "MODEL.ATTENTION.NAME", "psa_p"]), GPU)
    with GPU:
        fake_gpu.append(build_model(task.cfg))
    assert waits_of_steps(task, fake_gpu[0], persons()) == []


def test_its_backward_pass_waits_for_nothing(monkeypatch):
    # The fused optimiser, which the step on the fake GPU takes, refuses the meta device.
    monkeypatch.setattr(setup, "build_optimizer", lambda cfg, groups: torch.optim.Adam(groups))
    task = pose_task(torch.device("meta"))
    assert waits_of_steps(task, small_network(task.device), persons()) == []


@pytest.mark.parametrize("codec", ["standard", "dark", "udp_offset"])
def test_targets_and_loss_of_other_codecs_wait_for_nothing(fake_gpu, codec):
    task = pose_task(GPU, codec)
    fake_gpu.append(nn.Conv2d(3, 17 * task.codec.channels_per_joint, 4, 4, device=GPU))
    assert waits_of_steps(task, fake_gpu[0], persons()) == []


@pytest.mark.parametrize("loss", ["cross_entropy", "ohem", "focal", "rmi"])
def test_a_step_of_segmentation_waits_for_nothing(fake_gpu, loss):
    """With a weight per class where the loss has them."""
    weights = "[1.0]" if loss in ("focal", "rmi") else "[0.8, 0.8, 1.2, 1.6, 1.0]"
    words = ["LOSS.NAME", loss, "LOSS.CLASS_WEIGHTS", weights, "MODEL.CHANNELS_LAST", "False"]
    task = SegmentationTask(load_config("synthetic/segmentation", [*RECIPE, *words]), GPU)
    fake_gpu.append(nn.Conv2d(3, len(task.classes.names), 1, device=GPU))
    pixels = torch.zeros(4, 32, 32, 3, dtype=torch.uint8)
    batch = SegmentationBatch(pixels, pixels[..., 0], torch.arange(4), ("",) * 4)
    assert waits_of_steps(task, fake_gpu[0], batch) == []


def test_a_step_that_reads_its_loss_is_noticed(fake_gpu):
    task = pose_task(GPU)
    task.loss = lambda outputs, targets, size: outputs.sum() * float(outputs.detach().sum())
    fake_gpu.append(nn.Conv2d(3, 17, 4, 4, device=GPU))
    with pytest.raises(RuntimeError):
        waits_of_steps(task, fake_gpu[0], persons())
