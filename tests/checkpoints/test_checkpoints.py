import os
import pickle
import resource

import pytest
import torch
from torch import nn

from psa_pose.checkpoints import load_checkpoint, load_weights, save_checkpoint, unwrapped_state_dict
from psa_pose.errors import CheckpointError


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_what_is_saved_is_loaded(tmp_path):
    model = network()
    content = {"model": unwrapped_state_dict(model), "epoch": 3, "input": {"SIZE": [1, 2], "CHANNEL_ORDER": "bgr"}}
    save_checkpoint(tmp_path / "a.pt", content)
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert loaded["input"] == content["input"]
    other = network()
    assert "7 of 7 keys match" in load_weights(other, loaded["model"], "a.pt")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert os.listdir(tmp_path) == ["a.pt"]


def test_wrappers_leave_no_trace_in_the_names():
    model = network()
    wrapped = nn.Module()
    wrapped.module = model
    assert unwrapped_state_dict(wrapped).keys() == model.state_dict().keys()


def test_a_failed_write_leaves_the_previous_file(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"model": {}, "epoch": 1})
    before = path.read_bytes()
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"model": {}, "epoch": lambda: 0})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pt"]


def test_a_full_disk_is_named_and_leaves_the_previous_file(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"epoch": 1})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"a\.pt cannot be written: .* all of its 4\.0 MB, .* MB are free; free"
        ):
            save_checkpoint(path, {"model": {"w": torch.zeros(10**6)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pt"]


def test_other_keys_and_shapes_are_counted_and_named():
    weights = network().state_dict()
    weights["0.weight"] = torch.zeros(1)
    weights["extra"] = weights.pop("1.bias")
    with pytest.raises(CheckpointError) as error:
        load_weights(network(), weights, "b.pt")
    assert "5 of 7 keys match, 1 missing, 1 unexpected, 1 of another shape" in str(error.value)
    assert "missing 1.bias; unexpected extra; another shape: 0.weight" in str(error.value)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_malicious_file_executes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": Malicious()}, "bad.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Malicious()))
    for name in ("bad.pt", "raw.pt"):
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(name)
    assert not (tmp_path / "executed").exists()


def test_every_truncation_is_a_clear_error(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"model": unwrapped_state_dict(network())})
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"a\.pt"):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "gone.pt")
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="not one that"):
        load_checkpoint(path)


def test_wrappers_of_a_network_leave_no_trace_in_the_names_of_its_weights():
    """As torch.compile and DDP name what they wrap, one around the other in either order."""

    class Wrapper(nn.Module):
        def __init__(self, name, inner):
            super().__init__()
            self.add_module(name, inner)

    plain = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    compiled, spread = Wrapper("_orig_mod", plain), Wrapper("module", plain)
    for model in (plain, compiled, spread, Wrapper("module", compiled), Wrapper("_orig_mod", spread)):
        state = unwrapped_state_dict(model)
        assert list(state) == list(plain.state_dict())
        assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())
