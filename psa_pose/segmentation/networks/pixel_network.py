"""What the segmentation networks share: how their maps become logits at the images' size."""

from __future__ import annotations

from torch import Tensor, nn

from psa_pose.models.blocks import resize_bilinear


class PixelNetwork(nn.Module):
    """Images (B, 3, H, W) -> logits (B, classes, H, W); while it trains, the answer of `logits`.

    align_corners: of every enlargement in it.
    """

    align_corners: bool

    def logits(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, classes, h, w) of any size, auxiliary ones first, the final one last."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        maps = self.logits(images)
        return maps if self.training else resize_bilinear(maps[-1], images.shape[2:], self.align_corners)
