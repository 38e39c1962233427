"""A checkpoint, or an exported file, and pictures, videos or a camera -> people.

    estimator = psa_pose.PoseEstimator.from_checkpoint("best.pt")
    for person in estimator("picture.jpg", boxes=[[50, 20, 120, 300]]):
        print(person.score, person.keypoints)

Coordinates are pixels of the picture as `psa_pose.geometry` defines them: x = 0 is the centre of the leftmost column.
"""

from psa_pose.inference.estimator import Person, PoseEstimator
from psa_pose.inference.stream import FrameResult, stream

__all__ = ["FrameResult", "Person", "PoseEstimator", "stream"]
