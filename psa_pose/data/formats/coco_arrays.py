"""A large COCO keypoint file as arrays, without its content: mapped, read in pieces, checked all at once.

What a file as large as train2017's says of persons fits into some 40 MB; its content as Python objects takes 1.3 GB and
several times as long. Each piece is some neighbouring images or annotations; msgspec reads from it the fields that are
wanted, of the type that is wanted, and passes over the rest. A cut between two elements is one where what lies before
it is valid JSON with a bracket on either side: JSON read so far has only one meaning. What is left of the file without
the elements of its two lists must be an object with these two lists in it.

There are no error messages here. Anything that is unusual or wrong (an entry of another form, another category, two
facts that disagree) is left to `read_annotations`, which reads entry by entry and finds the words.
"""

from __future__ import annotations

import json
import mmap
import re
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from psa_pose.config.skeleton import keypoint_category
from psa_pose.data.formats.coco import Labels
from psa_pose.data.formats.coco_form import MOST, names_problem
from psa_pose.errors import DataError
from psa_pose.skeleton import Skeleton

# Bytes read at once, and those of them in which the last cut is looked for: longer than an annotation.
PIECE, TAIL = 4 << 20, 1 << 18
# A text or an object within an element may look like a cut.
TRIES = 3
# Stands for a whole number that is not stated; no id that `is_id` takes.
UNSTATED = -(2**63)
_LIST = re.compile(rb'"(images|annotations)"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*(?=\{)')
_BETWEEN = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)")
_END = re.compile(rb"\}[ \t\r\n]*(?=\])")


# What decodes a list of elements, and what takes them.
_Reader = tuple[Callable[[bytes], Any], Callable[[Any], None]]


class _Unclear(Exception):
    """The file needs a look at each of its entries."""


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: float
    height: float


class _Person(msgspec.Struct, gc=False):
    id: int
    image_id: int
    bbox: tuple[float, float, float, float]
    area: float
    keypoints: list[int]
    iscrowd: int = 0
    category_id: int = UNSTATED
    num_keypoints: int = UNSTATED


class _Fractions(_Person, gc=False):
    keypoints: list[int | float]  # type: ignore[assignment]


def read_arrays(path: Path, skeleton: Skeleton, category: str = "") -> Labels | None:
    """The file's `labels_of(read_annotations(...))`, equal in value and type; None where those must be asked."""
    images, persons = _Images(), _Persons(skeleton.num_joints)
    readers: dict[bytes, _Reader] = {
        b"images": (msgspec.json.Decoder(list[_Image]).decode, images.add),
        b"annotations": (_decoder_of_persons(), persons.add),
    }
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            content = _read(text, readers)
        person = _person_category(content["categories"], category, path, skeleton, persons)
    except (_Unclear, OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError, DataError):
        return None
    return _labels(path, person, images, persons)


def _decoder_of_persons() -> Callable[[bytes], list[_Person] | list[_Fractions]]:
    """Keypoints are whole numbers in most files, which are made and copied faster than fractions."""
    whole, fractions = msgspec.json.Decoder(list[_Person]), msgspec.json.Decoder(list[_Fractions])

    def decode(text: bytes) -> list[_Person] | list[_Fractions]:
        try:
            return whole.decode(text)
        except msgspec.ValidationError:
            return fractions.decode(text)

    return decode


def _read(text: mmap.mmap, readers: dict[bytes, _Reader]) -> dict[str, Any]:
    """What else the file holds, after its two lists have gone to their readers."""
    outside, lists, at = list[bytes](), dict[str, list[int]](), 0
    while found := _LIST.search(text, at):
        name, start = found[1], found.end()
        # In the place of the list's elements stands where they were: it must be found there.
        outside += [text[at:start], b"%d" % start]
        _need(name.decode() not in lists)
        lists[name.decode()] = [start]
        at = _read_list(text, start, *readers[name])
    content = json.loads(b"".join([*outside, text[at:]]))
    _need(len(lists) == 2 and all(content.get(name) == value for name, value in lists.items()))
    return content


def _read_list(text: mmap.mmap, at: int, decode: Callable[[bytes], Any], add: Callable[[Any], None]) -> int:
    """The place after the last element of a list whose first one begins at `at`."""
    while True:
        end = min(at + PIECE, len(text))
        # The last cuts between two elements; where the list ends before them, the first that may be its end.
        between = deque(_BETWEEN.finditer(text, max(at, end - TAIL), end), maxlen=TRIES)
        for cut in chain(reversed(between), islice(_END.finditer(text, at, end), TRIES)):
            piece = text[at : cut.start() + 1]
            try:
                elements = decode(b"[%b]" % piece)
            except msgspec.DecodeError:
                continue
            break
        else:
            raise _Unclear
        # Text that is passed over may be no text, and a number may be the one that stands for none.
        _need(b"%d" % UNSTATED not in piece and (piece.isascii() or bool(piece.decode())))
        add(elements)
        at = cut.end()
        # These pages of the file are needed no more; they would count as memory of this process.
        text.madvise(mmap.MADV_DONTNEED, 0, at // mmap.PAGESIZE * mmap.PAGESIZE)
        if cut.re is _END:
            return at


class _Images:
    """The images read so far: ids (n,), names (n,) bytes, sizes (n, 2)."""

    def __init__(self) -> None:
        self.ids, self.names, self.sizes = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()

    def add(self, images: list[_Image]) -> None:
        names = [image.file_name.replace("\\", "/") for image in images]
        _need(all(map(str.isprintable, names)) and not {"", ".", ".."} & {i.file_name for i in images})
        sizes = np.array([(image.width, image.height) for image in images], float)
        _need((sizes >= 1).all() and (sizes < MOST).all())
        self.ids.append(_column(images, "id"))
        self.names.append(np.array([name.encode() for name in names]))
        self.sizes.append(sizes)


class _Persons:
    """The annotations read so far: ids, image_ids (n,) of all of them, and the categories that they state.

    kept (n,) bool: no crowd, a labelled keypoint. boxes, areas, joints, visible: of those kept, as in `Labels`.
    """

    def __init__(self, joints: int) -> None:
        self._joints = joints
        self.categories: set[int] = set()
        self.ids, self.image_ids, self.kept = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
        self.boxes, self.areas = list[np.ndarray](), list[np.ndarray]()
        self.joints, self.visible = list[np.ndarray](), list[np.ndarray]()

    def add(self, persons: list[_Person]) -> None:
        n, size = len(persons), 3 * self._joints
        listed = [person.keypoints for person in persons]
        _need(set(map(len, listed)) == {size})
        number = float if isinstance(persons[0], _Fractions) else int
        numbers: np.ndarray = np.fromiter(chain.from_iterable(listed), number, n * size)
        keypoints = numbers.reshape(n, -1, 3)
        boxes = np.fromiter(chain.from_iterable(person.bbox for person in persons), float, n * 4).reshape(n, 4)
        areas = np.fromiter((person.area for person in persons), float, n)
        _need(all(values.min() > -MOST and values.max() < MOST for values in (keypoints, boxes, areas)))
        _need(np.isin(keypoints[..., 2], (0, 1, 2)).all())
        crowd, stated = _column(persons, "iscrowd"), _column(persons, "num_keypoints")
        visible = keypoints[..., 2] > 0
        labelled = visible.any(1)
        _need(((crowd == 0) | (crowd == 1)).all())
        _need(((stated == UNSTATED) | ((stated == 0) == ~labelled)).all())
        kept = (crowd == 0) & labelled
        self.categories.update(map(attrgetter("category_id"), persons))
        self.ids.append(_column(persons, "id"))
        self.image_ids.append(_column(persons, "image_id"))
        self.kept.append(kept)
        self.boxes.append(boxes[kept])
        self.areas.append(areas[kept])
        self.joints.append(keypoints[kept, :, :2].astype(np.float32))
        self.visible.append(visible[kept])


def _column(entries: Sequence[_Image | _Person], name: str) -> np.ndarray:
    """A whole number of each entry, (n,) int64. Raises OverflowError where one does not fit."""
    return np.fromiter(map(attrgetter(name), entries), np.int64, len(entries))


def _person_category(listed: Any, wanted: str, path: Path, skeleton: Skeleton, persons: _Persons) -> int:
    """The persons' category, which is every annotation's."""
    _need(isinstance(listed, list))
    named = keypoint_category(listed, wanted, path)
    if named is None or names_problem(named, skeleton):
        raise _Unclear
    _need(persons.categories <= {named["id"], UNSTATED})
    return named["id"]


def _labels(path: Path, category: int, images: _Images, persons: _Persons) -> Labels | None:
    """The arrays put together; None where ids repeat, or one names no image."""
    image_ids, ids, named, kept = map(_joined, (images.ids, persons.ids, persons.image_ids, persons.kept))
    order = np.argsort(image_ids)
    place = order[np.searchsorted(image_ids[order], named).clip(max=len(order) - 1)]
    if not (_differ(image_ids[order]) and _differ(np.sort(ids))) or (image_ids[place] != named).any():
        return None
    return Labels(
        path=path,
        category=category,
        other_categories=0,
        image_ids=image_ids,
        image_names=_joined(images.names),
        image_sizes=_joined(images.sizes),
        ids=ids[kept],
        image=place[kept],
        boxes=_joined(persons.boxes),
        joints=_joined(persons.joints),
        visible=_joined(persons.visible),
        areas=_joined(persons.areas),
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """All parts in one array. The list is empty afterwards: a part is dropped as soon as it is copied."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.result_type(*parts))
    at = len(whole)
    while parts:
        part = parts.pop()
        whole[at - len(part) : at] = part
        at -= len(part)
    return whole


def _differ(ordered: np.ndarray) -> bool:
    """Whether no number of (n,) rising ones is there twice."""
    return bool((ordered[1:] != ordered[:-1]).all())


def _need(fact: bool | np.bool_) -> None:
    if not fact:
        raise _Unclear
