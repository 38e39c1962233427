"""Work on a pretended GPU: which operations make the host wait for the device."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)

# Their result, or its shape, is needed on the host.
_READS = {
    "_linalg_check_errors",
    "_local_scalar_dense",
    "equal",
    "item",
    "masked_select",
    "nonzero",
    "unique_dim",
    "_unique2",
}


def pretend() -> FakeTensorMode:
    """The context in which tensors may lie on GPU, and nothing is computed."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    # Each of its tensors holds the mode, which a moving average, a deep copy of a model, would copy: with references
    # to storages that are then given back twice. That crashes some test that comes later.
    mode.__deepcopy__ = lambda memo: mode
    return mode


class Waits(TorchDispatchMode):
    """Notes what waits: reads, and copies between host and device that nobody said need not be waited for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        if name in _READS and args[0].device.type != "cpu":
            self.found.append(name)
        if name in ("index", "index_put_") and args[0].device.type != "cpu":
            self.found += [
                f"{name} by a list of the host's" for t in args[1] if t is not None and t.device.type == "cpu"
            ]
        answer = function(*args, **kwargs)
        kinds = {t.device.type for t in [*args, answer] if isinstance(t, torch.Tensor) and t.numel()}
        patient = kwargs.get("non_blocking", False) or (name == "copy_" and len(args) > 2 and args[2])
        if name in ("_to_copy", "copy_") and len(kinds) > 1 and not patient:
            self.found.append(name)
        return answer
