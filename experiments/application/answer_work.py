"""What the rungs of a cascade do for an answer: operations, bytes, processor time, and what bounds them.

Operations and the bytes that they move are counted by XLA in the compiled programs of a surrogate, padding included. A
simulator outside of this package's programs tells neither. Bytes that are read and stored come from the sizes of files.
A roofline (Williams et al. 2009, doi:10.1145/1498765.1498785) tells which resource of a core needs the longest time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.files import write_json
from data.plain import to_plain

if TYPE_CHECKING:
    from surrogates.learning.machine import MeasuredCost

#: Name of the file in the directory of a cascade.
WORK = "work.json"
#: Verdict where no program was counted.
UNKNOWN = "not counted"


@dataclass(frozen=True)
class AnswerWork:
    """What one rung does for one answer, and how often it was asked.

    Attributes:
        label: how the user named the rung.
        answers: number of answers.
        core_us: processor time of an answer, 1e-6 s.
        declared: whether that time is declared and not measured.
        operations: floating-point operations of an answer, transcendental functions not included; None if unknown.
        transcendentals: transcendental functions of an answer; None if unknown.
        bytes_moved: bytes that its programs read and write in caches and memory for an answer; None if unknown.
        bytes_read: bytes of the request in the file of requests.
        bytes_stored: bytes of the answer on the disk.
        bound: the resource that needs the longest time: arithmetic, bandwidth or transcendentals; "not counted" where
            operations are unknown.
        share: that time over `core_us`; None if unknown, or on an accelerator.
        expert: whether this is one expert of a mixture, whose work the mixture's contains.
    """

    label: str
    answers: float
    core_us: float
    declared: bool = False
    operations: float | None = None
    transcendentals: float | None = None
    bytes_moved: float | None = None
    bytes_read: float = 0.0
    bytes_stored: float = 0.0
    bound: str = UNKNOWN
    share: float | None = None
    expert: bool = False

    def metrics(self, prefix: str) -> dict[str, float]:
        """Flat metrics, with the unit in the key; what is unknown is left out."""
        values = {
            "core_us_per_answer": self.core_us,
            "operations_per_answer": self.operations,
            "bytes_moved_per_answer": self.bytes_moved,
            "bytes_read_per_answer": self.bytes_read,
            "bytes_stored_per_answer": self.bytes_stored,
            "roofline_share": self.share,
        }
        return {f"{prefix}/{name}": float(value) for name, value in values.items() if value is not None}


def counted(predict: Callable[[], object], answers: int) -> MeasuredCost | None:
    """The work of one answer, as the compiled programs of a prediction tell it.

    Args:
        predict: predicts for some requests; it is run once.
        answers: how many these are.

    Returns:
        None if no program was run, as by a simulator.
    """
    # Imported here, because pages, which read what is written, need no JAX.
    from surrogates.learning.program_work import metered

    with metered() as meter:
        predict()
    return meter.work().times(1 / answers) if meter.calls and answers else None


def judged(work: AnswerWork, cost: MeasuredCost | None) -> AnswerWork:
    """The work of a rung with the operations and bytes of its programs, and what bounds them on a core."""
    if cost is None:
        return work
    # See `counted`.
    import jax

    from surrogates.learning.machine import peaks_of_a_core

    peaks = peaks_of_a_core()
    bound, share = cost.bound(peaks, work.core_us * 1e-6)
    measured = jax.default_backend() == "cpu" and not work.declared and work.core_us > 0
    return replace(
        work,
        operations=cost.flops,
        transcendentals=cost.transcendentals,
        bytes_moved=cost.bytes,
        bound=bound,
        share=share if measured else None,
    )


def write_work(works: Sequence[AnswerWork], out: Path) -> None:
    """Write the work of the rungs of a cascade, from which its page is made."""
    write_json(out / WORK, {"rungs": [to_plain(work) for work in works]})


def work_metrics(works: Sequence[AnswerWork]) -> Mapping[str, float]:
    """Flat metrics of all rungs."""
    return {k: v for i, work in enumerate(works) for k, v in work.metrics(f"cascade/rung/{i}").items()}
