"""What carries frames from one thread to the next: bounded, in order, with a named policy for when it is full."""

from __future__ import annotations

import threading
from enum import Enum
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Policy(str, Enum):
    """What happens to a frame for which there is no room."""

    EVERY = "every"  # the sender waits: no frame is lost (files)
    LATEST = "latest"  # the oldest frame is dropped and counted: what comes out is never stale (cameras)


class Closed(Exception):
    """The channel was closed while, or before, something was to pass through it."""


class Channel(Generic[Item]):
    """Items between threads, taken in the order of the places they were put at, whichever thread was first.

    Several senders may put items at different places; a receiver gets them in order. What is taken is counted anew, so
    that several receivers can put their results, in turn, at the places where the next channel expects them.

    Args:
        depth: how many places from the oldest one on there is room for.
        policy: what happens when there is no room.

    Attributes:
        dropped: items lost to `Policy.LATEST`.
    """

    def __init__(self, depth: int, policy: Policy = Policy.EVERY) -> None:
        assert depth > 0
        self.dropped = 0
        self._depth = depth
        self._policy = policy
        self._items: dict[int, Item] = {}
        self._oldest = 0
        self._taken = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, place: int, item: Item, *, wait: bool = False) -> None:
        """Put an item at a place; each place exactly once, without gaps.

        Args:
            place: 0, 1, 2, ...
            item: anything.
            wait: wait for room whatever the policy, so that this item displaces none.

        Raises:
            Closed: it will not be taken.
        """
        with self._changed:
            if self._policy is Policy.EVERY or wait:
                self._changed.wait_for(lambda: self._closed or place < self._oldest + self._depth)
            if self._closed:
                raise Closed
            while place >= self._oldest + self._depth:
                del self._items[self._oldest]
                self._oldest += 1
                self.dropped += 1
            self._items[place] = item
            self._changed.notify_all()

    def get(self) -> tuple[int, Item]:
        """Take the oldest item, as soon as it is there.

        Returns:
            How many were taken before it, and the item.

        Raises:
            Closed: nothing more will come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._oldest in self._items)
            if self._closed:
                raise Closed
            item = self._items.pop(self._oldest)
            self._oldest += 1
            self._taken += 1
            self._changed.notify_all()
            return self._taken - 1, item

    def close(self) -> None:
        """Drop what is inside and wake everybody with `Closed`. A second call does nothing."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
