"""The second task: semantic segmentation."""
