"""People followed from frame to frame, and their joints without the jitter: `Tracker`.

Joints go through the One Euro filter of Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter
for Noisy Input in Interactive Systems" (CHI 2012): a low-pass filter whose cutoff frequency rises with the speed, so
that what stands still is calm and what moves does not lag behind. Positions are image pixels; speed is counted in sizes
of the person (the square root of the box's area) per second, so that the resolution of a video makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from psa_pose.geometry import pairwise_iou
from psa_pose.inference.estimator import Person
from psa_pose.metrics.oks import pairwise_oks


@dataclass(frozen=True, eq=False)
class TrackedPerson(Person):
    """A person with the number of their track, from 1; joints are smoothed, box and scores as they were found."""

    track: int = 0


@dataclass(frozen=True)
class OneEuro:
    """The filter's constants: cutoffs in Hz, beta in Hz per person's size a second.

    The cutoff of a joint is min_cutoff + beta * speed; the speed itself is filtered at speed_cutoff.
    """

    min_cutoff: float = 1.0
    beta: float = 5.0
    speed_cutoff: float = 1.0

    def share(self, cutoff: np.ndarray | float, seconds: float) -> np.ndarray | float:
        """The weight of a new value after so many seconds: 1 / (1 + tau / seconds), tau = 1 / (2 pi cutoff)."""
        return 1 / (1 + 1 / (2 * math.pi * cutoff * seconds))


@dataclass
class _Track:
    """Of one person: when last seen, found and smoothed joints (K, 2), velocity (K, 2) in pixels a second.

    known (K,): joints that were sure enough when last seen, from which the filter goes on.
    """

    number: int
    index: int
    box: np.ndarray
    found: np.ndarray
    smooth: np.ndarray
    velocity: np.ndarray
    known: np.ndarray


class Tracker:
    """Called with a frame's number and its people, frame by frame, it gives TrackedPersons in the same order.

    sigmas (K,): OKS constants. fps: frames per second; numbers may have gaps. threshold: a joint that scores no more is
    left as it was found, and smoothed anew from where it is next sure. A person goes on with the track that is most
    alike, the best pairs first: mean of OKS and of the boxes' intersection over union, at least `alike`. A track
    that nobody went on with for `patience` seconds is over.
    """

    def __init__(
        self,
        sigmas: Sequence[float],
        fps: float,
        threshold: float = 0.2,
        constants: OneEuro | None = None,
        alike: float = 0.2,
        patience: float = 0.5,
    ) -> None:
        self._sigmas, self._fps, self._threshold = np.array(sigmas), fps, threshold
        self._constants = constants or OneEuro()
        self._alike, self._patience = alike, patience
        self._tracks: list[_Track] = []
        self._started = 0

    def __call__(self, index: int, people: list[Person]) -> list[Person]:
        self._tracks = [t for t in self._tracks if (index - t.index) / self._fps <= self._patience]
        pairs = dict(self._pairs(people))
        tracks = [self._go_on(self._tracks[pairs[row]], index, person) if row in pairs else self._start(index, person)
                  for row, person in enumerate(people)]  # fmt: skip
        kept = [track for place, track in enumerate(self._tracks) if place not in pairs.values()]
        self._tracks = kept + tracks
        return [_smoothed(person, track) for person, track in zip(people, tracks, strict=True)]

    def _pairs(self, people: list[Person]) -> list[tuple[int, int]]:
        """(row of a person, place of a track), each in one pair at most."""
        if not people or not self._tracks:
            return []
        boxes = np.stack([*(person.box for person in people), *(track.box for track in self._tracks)])
        joints = np.stack([*(p.keypoints[:, :2] for p in people), *(track.found for track in self._tracks)])
        likeness = (pairwise_oks(joints, boxes[:, 2:].prod(1), self._sigmas) + pairwise_iou(boxes)) / 2
        n, pairs = len(people), list[tuple[int, int]]()
        likeness = likeness[:n, n:].copy()
        while likeness.max() >= self._alike:
            row, place = map(int, np.unravel_index(likeness.argmax(), likeness.shape))
            pairs.append((row, place))
            likeness[row], likeness[:, place] = -1, -1
        return pairs

    def _start(self, index: int, person: Person) -> _Track:
        self._started += 1
        joints = person.keypoints[:, :2].copy()
        known = person.keypoints[:, 2] > self._threshold
        return _Track(self._started, index, person.box, joints, joints, np.zeros_like(joints), known)

    def _go_on(self, track: _Track, index: int, person: Person) -> _Track:
        constants, seconds = self._constants, (index - track.index) / self._fps
        joints, known = person.keypoints[:, :2], person.keypoints[:, 2] > self._threshold
        velocity = (joints - track.smooth) / seconds
        velocity = track.velocity + constants.share(constants.speed_cutoff, seconds) * (velocity - track.velocity)
        speed = np.linalg.norm(velocity, axis=1) / math.sqrt(person.box[2:].prod())
        share = constants.share(constants.min_cutoff + constants.beta * speed, seconds)
        goes_on = (known & track.known)[:, None]
        smooth = np.where(goes_on, track.smooth + np.asarray(share)[:, None] * (joints - track.smooth), joints)
        velocity = np.where(goes_on, velocity, 0)
        return _Track(track.number, index, person.box, joints.copy(), smooth, velocity, known)


def _smoothed(person: Person, track: _Track) -> TrackedPerson:
    values = {field.name: getattr(person, field.name) for field in fields(Person)}
    values["keypoints"] = np.concatenate([track.smooth, person.keypoints[:, 2:]], axis=1)
    return TrackedPerson(**values, track=track.number)
