"""An evaluation's batch on a pretended GPU: nothing in it makes the host wait for the device."""

import pytest
import torch
from torch import nn

from psa_pose.codecs import make_codec
from psa_pose.data.dataset import Batch
from psa_pose.evaluation.predict_set import answer_batch
from psa_pose.predict import Normalization, model_predictor
from psa_pose.skeleton import COCO
from tests.fake_gpu import GPU, Waits, pretend

SIZE = (64, 96)


def some_batch():
    crops = torch.zeros(2, SIZE[1], SIZE[0], 3, dtype=torch.uint8)
    return Batch(crops, torch.zeros(2, 17, 2), torch.ones(2, 17), torch.zeros(2, 2, 3), torch.arange(2), ("",) * 2)


@pytest.mark.parametrize("name", ["standard", "dark", "udp_gaussian", "udp_offset"])
def test_a_batch_of_an_evaluation_waits_for_nothing(name):
    """The network is a stand-in; `tests/training` takes a whole one through a step."""
    codec, waits = make_codec(name, SIZE, (16, 24)), Waits()
    with pretend():
        model = nn.Conv2d(3, 17 * codec.channels_per_joint, 4, 4, device=GPU)
        normalization = Normalization.of((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), GPU)
        predictor = model_predictor(model, codec, normalization, COCO, True)
        for number in range(2):
            # The first batch sends what is constant.
            with waits if number else torch.no_grad():
                answer, maps = answer_batch(predictor, some_batch())
        assert {t.device for t in (answer.joints, answer.scores, maps)} == {GPU}
    assert waits.found == []


def test_an_answer_keeps_nothing_of_its_batch():
    """A loader's worker sends each tensor through a file that stays open as long as the tensor lives."""
    batch = some_batch()
    answer, _ = answer_batch(lambda batch: (batch.joints + 1, batch.visible * 1, batch.crops), batch)
    of_batch = {part.untyped_storage().data_ptr() for part in batch if isinstance(part, torch.Tensor)}
    kept = {part.untyped_storage().data_ptr() for part in answer if isinstance(part, torch.Tensor)}
    assert not kept & of_batch
    assert torch.equal(answer.rows, batch.rows)
    assert torch.equal(answer.matrices, batch.matrices)
