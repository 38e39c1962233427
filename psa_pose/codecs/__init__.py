"""Keypoints to heatmaps and back."""
