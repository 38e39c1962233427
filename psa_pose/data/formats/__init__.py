"""Files of people with keypoints, read: one form a file."""
