"""Figures from arrays: OKS, COCO keypoint AP, PCK, significance, kinds of errors. Nothing of files or devices."""
