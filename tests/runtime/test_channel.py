"""What carries frames between threads: order, room, and an end for everybody who waits."""

from __future__ import annotations

import threading

import pytest

from runtime.channel import Channel, Closed, Policy


def in_thread(function, *arguments, **options) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, kwargs=options, daemon=True)
    thread.start()
    return thread


def test_items_come_out_in_the_order_of_their_places_whoever_was_first():
    channel: Channel[str] = Channel(3)
    channel.put(1, "b")
    channel.put(2, "c")
    channel.put(0, "a")
    assert [channel.get() for _ in range(3)] == [(0, "a"), (1, "b"), (2, "c")]


def test_every_waits_for_room_and_loses_nothing():
    channel: Channel[int] = Channel(2)
    sender = in_thread(lambda: [channel.put(i, i) for i in range(100)])
    assert [channel.get()[1] for _ in range(100)] == list(range(100))
    sender.join(5)
    assert channel.dropped == 0


def test_latest_drops_the_oldest_counts_it_and_numbers_what_is_taken_without_gaps():
    channel: Channel[int] = Channel(2, Policy.LATEST)
    for i in range(5):
        channel.put(i, i)
    assert [channel.get(), channel.get()] == [(0, 3), (1, 4)]
    channel.put(5, 5)
    assert channel.get() == (2, 5)
    assert channel.dropped == 3


def test_an_item_that_waits_displaces_nothing_under_latest():
    channel: Channel[int] = Channel(1, Policy.LATEST)
    channel.put(0, 10)
    sender = in_thread(channel.put, 1, 11, wait=True)
    assert channel.get()[1] == 10
    assert channel.get()[1] == 11
    sender.join(5)
    assert channel.dropped == 0


@pytest.mark.parametrize("waiting", ["receiver", "sender"])
def test_closing_wakes_whoever_waits(waiting):
    channel: Channel[int] = Channel(1)
    woken = threading.Event()

    def wait() -> None:
        try:
            if waiting == "sender":
                channel.put(1, 1)  # place 0 is still missing, so that there is no room
            else:
                channel.get()
        except Closed:
            woken.set()

    thread = in_thread(wait)
    channel.close()
    channel.close()
    thread.join(5)
    assert woken.is_set()
    for late in (lambda: channel.put(0, 0), channel.get):
        with pytest.raises(Closed):
            late()


def test_two_workers_keep_the_order_of_what_they_took():
    before: Channel[int] = Channel(4)
    after: Channel[int] = Channel(4)

    def work() -> None:
        try:
            while True:
                place, item = before.get()
                after.put(place, item * item)
        except Closed:
            pass

    workers = [in_thread(work) for _ in range(3)]
    sender = in_thread(lambda: [before.put(i, i) for i in range(500)])
    assert [after.get()[1] for _ in range(500)] == [i * i for i in range(500)]
    before.close()
    for thread in (*workers, sender):
        thread.join(5)
        assert not thread.is_alive()
