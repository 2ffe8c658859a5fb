import threading
import time

import pytest

from dav2.prediction.ahead import read_ahead, use_behind


def test_one_item_is_read_while_another_is_used():
    started = []

    def items():
        for number in range(4):
            started.append((number, threading.current_thread() is threading.main_thread()))
            yield number

    for number in read_ahead(items()):
        deadline = time.monotonic() + 5
        while len(started) < min(number + 2, 4) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert started == [(done, False) for done in range(min(number + 2, 4))]


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("broken")

    taken = []
    with pytest.raises(ValueError, match="broken"):
        taken.extend(iter(read_ahead(items())))
    assert taken == [1]


def test_one_item_is_used_while_the_next_is_made():
    made, used = [], []
    second_is_made = threading.Event()

    def items():
        for number in range(3):
            made.append(number)
            if number == 1:
                second_is_made.set()
            yield number

    def use(number):
        if number == 0:
            assert second_is_made.wait(5)  # only if the caller went on meanwhile
        assert threading.current_thread() is not threading.main_thread()
        used.append(number)

    use_behind(items(), use)
    assert made == used == [0, 1, 2]


def test_nothing_is_used_after_an_error():
    used = []

    def use(number):
        used.append(number)
        if number == 1:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        use_behind(range(9), use)
    assert used == [0, 1]
