"""Each process learns that another one ended, why, and that all have come to the end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from surrogates.learning import peers
from surrogates.learning.peers import Ending, Peers

LIMIT_S = 60.0


class Group:
    """The connections of three processes, all in this one, and what each heard."""

    def __init__(self, lost_after_s: float = LIMIT_S) -> None:
        self.heard: list[queue.Queue[Ending]] = [queue.Queue() for _ in range(3)]
        self.members = [Peers(k, 3, lost_after_s, self.heard[k].put) for k in range(3)]
        self.port = self.members[0].listen("secret", "127.0.0.1")
        for member in self.members[1:]:
            member.connect("secret", "127.0.0.1", self.port)
        wait_for(lambda: len(self.members[0]._links) == 2)
        wait_for(lambda: all(member._links[0].pid for member in self.members[1:]))

    def cut(self, process: int) -> None:
        """The connections of a process are closed, as the kernel does when it was killed."""
        self.members[process]._stop()


def wait_for(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(int(LIMIT_S / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("never came true")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(peers, "GRACE_S", 0.0)
    monkeypatch.setattr(peers, "DEPARTURE_S", 0.0)
    monkeypatch.setattr(peers, "BEAT_S", 0.05)
    return iter([None])


def test_all_learn_which_process_died() -> None:
    for died in (0, 2):
        group = Group()
        group.cut(died)
        for k in {0, 1, 2} - {died}:
            ending = group.heard[k].get(timeout=LIMIT_S)
            assert (ending.process, ending.how, ending.status) == (died, "died", 130)
            assert ending.line().startswith(f"Process {died} (")
            assert group.heard[k].empty()


def test_all_learn_why_a_process_ends() -> None:
    group = Group()
    group.members[1].tell("ended: no such file", 2)
    for k in (0, 2):
        ending = group.heard[k].get(timeout=LIMIT_S)
        assert (ending.process, ending.how, ending.status) == (1, "ended: no such file", 2)
    assert group.heard[1].empty()


def test_a_silent_process_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(lost_after_s=0.5)
    # Its connections stay open, as those of a host without power do.
    monkeypatch.setattr(group.members[2], "_watch", lambda: None)
    group.members[2]._links[0].send = lambda **_: None  # type: ignore[method-assign]
    assert group.heard[0].get(timeout=LIMIT_S).how == "gave no sign of life for 0.5 s"
    assert group.heard[1].get(timeout=LIMIT_S).process == 2


def test_a_process_that_never_comes_is_named() -> None:
    heard: queue.Queue[Ending] = queue.Queue()
    alone = Peers(0, 2, 0.1, heard.put)
    port = alone.listen("secret", "127.0.0.1")
    # Whoever does not know the token is none of them.
    Peers(1, 2, LIMIT_S, lambda _: None).connect("guess", "127.0.0.1", port)
    assert heard.get(timeout=LIMIT_S) == Ending(1, "", 0, "never came", 130)


def test_all_wait_for_each_other_at_the_end() -> None:
    group = Group()
    over: list[int] = []
    threads = []
    for k in (2, 0):
        threads.append(threading.Thread(target=lambda k=k: (group.members[k].finish(), over.append(k))))
        threads[-1].start()
    threads[0].join(0.3)
    assert over == []
    group.members[1].finish()
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(over) == [0, 2]
    assert all(heard.empty() for heard in group.heard)
