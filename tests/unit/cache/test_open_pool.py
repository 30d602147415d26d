"""The bounded pool of open things."""

import threading

from streamkit.cache import OpenPool


class Opener:
    """Opens a key as a one-element list, and counts how often."""

    def __init__(self) -> None:
        self.opened: list[int] = []

    def __call__(self, key: int) -> list[int]:
        self.opened.append(key)
        return [key]


def make(opener: Opener, *, items: int = 100, max_bytes: int = 10**9) -> OpenPool[int, list[int]]:
    return OpenPool(opener, lambda value: value[0], max_items=items, max_bytes=max_bytes)


def test_values_come_in_the_order_of_the_keys_and_are_opened_once() -> None:
    opener = Opener()
    pool = make(opener)
    assert pool.get([3, 1, 2]) == [[3], [1], [2]]
    assert pool.get([1, 3]) == [[1], [3]]
    assert opener.opened == [3, 1, 2]
    assert len(pool) == 3


def test_what_was_used_longest_ago_goes_first() -> None:
    opener = Opener()
    pool = make(opener, items=2)
    pool.get([1])
    pool.get([2])
    pool.get([1])
    pool.get([3])  # 2 goes
    pool.get([1, 3])
    assert opener.opened == [1, 2, 3]
    pool.get([2])
    assert opener.opened == [1, 2, 3, 2]
    assert len(pool) == 2


def test_bytes_are_bounded_but_the_newest_stays() -> None:
    opener = Opener()
    pool = make(opener, max_bytes=10)
    pool.get([4])
    pool.get([5])
    assert len(pool) == 2
    pool.get([7])
    assert len(pool) == 1  # 5 + 7 are more than 10 too
    pool.get([1000])
    assert len(pool) == 1
    assert pool.get([1000]) == [[1000]]
    assert opener.opened == [4, 5, 7, 1000]
    pool.get([2])
    pool.get([3])
    assert len(pool) == 2  # the bytes of what went are no longer counted


def test_a_call_may_ask_for_more_than_is_kept() -> None:
    pool = make(Opener(), items=2)
    assert pool.get(range(1, 9)) == [[i] for i in range(1, 9)]
    assert len(pool) == 2


def test_clear_lets_go_of_all() -> None:
    opener = Opener()
    pool = make(opener, max_bytes=10)
    pool.get([6])
    pool.clear()
    assert len(pool) == 0
    pool.get([6])
    pool.get([4])
    assert len(pool) == 2
    assert opener.opened == [6, 6, 4]


def test_two_threads_that_open_one_key_share_one_value() -> None:
    barrier = threading.Barrier(2)

    def open_together(key: int) -> list[int]:
        barrier.wait(timeout=30)
        return [key]

    pool: OpenPool[int, list[int]] = OpenPool(
        open_together, lambda value: 1, max_items=4, max_bytes=100
    )
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.extend(pool.get([7]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]
    assert len(pool) == 1
