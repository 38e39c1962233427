"""Keypoints to heatmaps and back: `make_codec` gives one object that encodes, decodes and aligns a flipped output."""

from __future__ import annotations

import inspect

from yacs.config import CfgNode

from psa_pose.codecs.base import Codec
from psa_pose.codecs.gaussian import Dark, Standard, UdpGaussian
from psa_pose.codecs.udp_offset import UdpOffset
from psa_pose.errors import ConfigError, closest

CODECS: dict[str, type[Codec]] = {c.name: c for c in (Standard, Dark, UdpGaussian, UdpOffset)}


def make_codec(name: str, input_size: tuple[int, int], heatmap_size: tuple[int, int], **options: float | None) -> Codec:
    """The codec of that name for crops of `input_size` and maps of `heatmap_size`, both (width, height) in pixels.

    names: "standard" (SimpleBaseline, HRNet), "dark", "udp_gaussian", "udp_offset".
    options, None meaning the default; each codec takes those it reads:
      sigma: standard deviation of the target, heatmap pixels; 2 per 48 pixels of heatmap width (all but udp_offset).
      blur: odd side of the decoder's blur kernel, heatmap pixels; 11 (dark, udp_gaussian), 23 (udp_offset).
      radius_factor: radius of the class disc as a fraction of the map's longer side; 0.0546875 (udp_offset).
    Raises ConfigError on an unknown name or option, or a value that cannot be used.
    """
    if name not in CODECS:
        raise ConfigError(f"codec {name!r} is not known; {closest(name, CODECS)}")
    known = [p for p in inspect.signature(CODECS[name]).parameters if p not in ("input_size", "heatmap_size")]
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in known:
            raise ConfigError(f"codec {name!r} has no option {key!r}; {closest(key, known)}")
    return CODECS[name](input_size, heatmap_size, **given)


def build_codec(cfg: CfgNode) -> Codec:
    """The codec of CODEC and the INPUT sizes; 0 means the codec's own default."""
    options = {"sigma": cfg.CODEC.SIGMA, "blur": cfg.CODEC.BLUR}
    given = {key: value for key, value in options.items() if value}
    return make_codec(cfg.CODEC.NAME, cfg.INPUT.SIZE, cfg.INPUT.HEATMAP_SIZE, **given)


__all__ = ["CODECS", "Codec", "build_codec", "make_codec"]
