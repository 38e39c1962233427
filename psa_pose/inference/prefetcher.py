"""An iterator whose items are made in a thread of its own, a few ahead of whoever takes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Iterator[T], Generic[T]):
    """What `items` yields, in order, at most `most` (1 or more) of them waiting here; the thread starts at once.

    An error of `items` is raised here, after the items before it. newest: where `most` are waiting the oldest is
    dropped instead of `items` being held up. `close`, then `join`, end the thread early, in the midst of `items`.
    """

    def __init__(self, items: Generator[T, None, None], most: int, newest: bool = False) -> None:
        self._items, self._most, self._newest = items, most, newest
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._closed)
            if self._ready and not self._closed:
                self._changed.notify_all()
                return self._ready.popleft()
            if self._error is not None and not self._closed:
                error, self._error = self._error, None
                raise error
        raise StopIteration

    def waiting(self) -> bool:
        """Whether the next item is there already."""
        with self._changed:
            return bool(self._ready)

    def close(self) -> None:
        """Ask the thread to end; whoever waits here is told that there is no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the thread, which first finishes the item that it is at."""
        self._thread.join()

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item):
                    break
            self._items.close()
        except BaseException as caught:  # Whatever it is, it is raised where the items are taken.
            error = caught
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            if self._newest and len(self._ready) >= self._most:
                self._ready.popleft()
            self._changed.wait_for(lambda: len(self._ready) < self._most or self._closed)
            self._ready.append(item)
            self._changed.notify_all()
            return not self._closed
