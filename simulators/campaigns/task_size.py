"""How many requests go into one task of an engine, or to a worker together: as many as take about a second.

With more than a hundred workers tasks are longer, so that no more than a hundred a second end.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Wall time that a task is to take at least, s, beside which the few milliseconds that an engine needs for it do not
#: count, and tasks a second that a scheduler and the folder of a campaign take easily.
TASK_S, TASKS_PER_S = 1.0, 100.0
#: Largest size of the frames of a task, bytes, and largest number of its requests.
TASK_BYTES, MOST = 8_000_000, 512
#: Weight of the newest task in the means, and largest growth from one task to the next.
NEWEST, GROWTH = 0.5, 4


@dataclass
class TaskSize:
    """Learns from finished tasks; the first tasks have one request each.

    Attributes:
        seconds: mean wall time of a request, s.
        size: mean size of its frame, bytes.
        largest: largest number of requests of a task so far.
    """

    seconds: float = TASK_S
    size: float = 0.0
    largest: int = 0

    def requests(self, workers: int) -> int:
        """Number of requests for the next task.

        Args:
            workers: number of workers that have a task each.
        """
        time = max(TASK_S, workers / TASKS_PER_S)
        fits = min(time / max(self.seconds, 1e-6), TASK_BYTES / max(self.size, 1.0), MOST, GROWTH * self.largest)
        return max(1, int(fits))

    def learn(self, requests: int, seconds: float, size: int) -> None:
        """Take a finished task into account.

        Args:
            requests: number of its requests.
            seconds: its wall time, s.
            size: size of its frames, bytes.
        """
        if requests < 1:
            return
        newest = NEWEST if self.largest else 1.0
        self.seconds += newest * (seconds / requests - self.seconds)
        self.size += newest * (size / requests - self.size)
        self.largest = max(self.largest, requests)
