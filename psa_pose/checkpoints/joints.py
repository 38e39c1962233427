"""The last layers of a network that was trained on other keypoints: their rows, matched by the joints' names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from psa_pose.skeleton import name_key

# The layers with channels of their own for each joint, and the dimension of their weights that counts them.
_JOINT_LAYERS = {
    r"(?:.+\.)?final_layer\.(?:weight|bias)": 0,
    r"global_net\.heads\.\d+\.1\.(?:weight|bias)": 0,
    r".+\.merge_maps\.weight": 1,
}


def joint_dimension(key: str) -> int | None:
    """The dimension of a weight that counts the joints' channels, joint by joint; None for no such weight."""
    return next((dim for pattern, dim in _JOINT_LAYERS.items() if re.fullmatch(pattern, key)), None)


def match_joints(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], theirs: Sequence[str], ours: Sequence[str]
) -> tuple[dict[str, Tensor], str]:
    """A file's weights for a network of other keypoints, and one line that says which joints start from the file's.

    own: the network's weights, as initialised: what a joint without a namesake keeps. theirs, ours: names of the
    joints, in channel order; spelling does not count. A layer of another number of maps per joint is left as it is.
    """
    places = {name_key(name): place for place, name in enumerate(theirs)}
    pairs = [(row, places[name_key(name)]) for row, name in enumerate(ours) if name_key(name) in places]
    matched = dict(weights)
    for key, value in weights.items():
        dim = joint_dimension(key)
        maps = value.shape[dim] // len(theirs) if dim is not None else 0
        if dim is None or key not in own or own[key].shape[dim] != maps * len(ours):
            continue
        # Joints first, so that a joint is one index whatever the dimension and the number of its maps.
        target = own[key].detach().cpu().clone()
        by_joint, source = (t.unflatten(dim, (-1, maps)).movedim(dim, 0) for t in (target, value))
        for row, place in pairs:
            by_joint[row] = source[place]
        matched[key] = target
    return matched, _report(theirs, ours, dict(pairs))


def _report(theirs: Sequence[str], ours: Sequence[str], pairs: Mapping[int, int]) -> str:
    taken, fresh = [n for i, n in enumerate(ours) if i in pairs], [n for i, n in enumerate(ours) if i not in pairs]
    unused = [n for i, n in enumerate(theirs) if i not in pairs.values()]
    parts = [f"{len(taken)} of {len(ours)} keypoints start from those of equal name ({', '.join(taken) or 'none'})"]
    parts += [f"as initialised: {', '.join(fresh)}"] if fresh else []
    parts += [f"not taken from the file: {', '.join(unused)}"] if unused else []
    return "; ".join(parts)
