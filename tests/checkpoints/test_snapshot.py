"""A snapshot is what its content was, in memory that is kept."""

import torch
from torch import nn

from psa_pose.checkpoints.snapshot import Snapshot
from scripts.stress_resume import same


def test_a_snapshot_keeps_its_memory_its_strides_and_no_more_than_its_tensors():
    model = nn.Conv2d(3, 8, 3, bias=False).to(memory_format=torch.channels_last)
    whole = torch.arange(100.0)
    given = {"w": model.weight, "part": whole[10:13], "turned": whole.view(10, 10).t(), "flag": torch.tensor(True)}
    given |= {"none": None, "few": [torch.zeros(0), torch.tensor(2, dtype=torch.int64), 3], "half": whole[:3].half()}
    snapshot = Snapshot()
    first = snapshot.take(given)
    assert same(first, given)
    assert first["w"].stride() == model.weight.stride()
    assert first["part"].untyped_storage().nbytes() == 12
    assert not first["w"].requires_grad
    second = snapshot.take(given)
    assert second["w"].data_ptr() == first["w"].data_ptr()


def test_a_prepared_snapshot_has_its_memory_and_takes_what_came_to_it():
    given = {"w": torch.rand(20, 20), "state": []}
    snapshot = Snapshot()
    snapshot.prepare({**given, "more": torch.zeros(1000)})
    first = snapshot.take(given)
    assert same(first, given)
    assert first["w"].data_ptr() % 64 == 0
    memory = first["w"].data_ptr()
    # Other shapes in as much memory; then more than there is.
    turned = {"w": given["w"].t(), "state": [torch.ones(7)]}
    second = snapshot.take(turned)
    assert same(second, turned)
    assert second["w"].data_ptr() == memory
    # As many tensors with another layout.
    other = {"w": torch.rand(2, 3).double().t(), "state": [torch.ones(7)]}
    third = snapshot.take(other)
    assert same(third, other)
    assert third["w"].stride() == (1, 3)
    large = {"w": torch.rand(5000)}
    assert same(snapshot.take(large), large)
    assert same(snapshot.take({"none": None}), {"none": None})
