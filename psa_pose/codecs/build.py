"""The codec that a config asks for."""

from __future__ import annotations

from yacs.config import CfgNode

from psa_pose.codecs import Codec, make_codec


def build_codec(cfg: CfgNode) -> Codec:
    """Read INPUT sizes and CODEC; 0 means the codec's own default."""
    options = {"sigma": cfg.CODEC.SIGMA, "blur": cfg.CODEC.BLUR}
    given = {key: value for key, value in options.items() if value}
    return make_codec(cfg.CODEC.NAME, cfg.INPUT.SIZE, cfg.INPUT.HEATMAP_SIZE, **given)
