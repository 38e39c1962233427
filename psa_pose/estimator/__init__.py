"""A checkpoint, or an exported file, and a picture -> people: `PoseEstimator`.

    estimator = psa_pose.PoseEstimator.from_checkpoint("best.pt")
    for person in estimator("picture.jpg", boxes=[[50, 20, 120, 300]]):
        print(person.score, person.keypoints)

Coordinates are pixels of the picture as `psa_pose.geometry` defines them: x = 0 is the centre of the leftmost column.
"""

from psa_pose.estimator.pose import Person, PoseEstimator

__all__ = ["Person", "PoseEstimator"]
