"""From predicted keypoints to COCO keypoint AP."""
