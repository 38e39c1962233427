"""The share of correct keypoints, measured by a head or by a torso."""
