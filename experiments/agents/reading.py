"""Files of a run, a page of at most 20 kB at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from data.suggestions import did_you_mean
from experiments.agents.confinement import Root, capped
from experiments.agents.jobs import Jobs
from experiments.agents.run_places import Place

#: Bytes of a page.
PAGE = 20_000
#: What can be read -> names of the files, of which the first that is there is read.
FILES: Mapping[str, tuple[str, ...]] = {
    "metrics": ("metrics.json",),
    "top": ("top.csv", "screen/top.csv"),
    "recheck": ("recheck.csv",),
    "rejects": ("rejects.csv", "screen/rejects.csv", "rejects_of_refused.csv"),
    "failures": ("failures.csv",),
    "ledger": ("costs.json",),
    "configuration": ("config.yaml",),
    "log": ("log.txt",),
    "reading": ("reading.json",),
    "progress": ("progress.json",),
    "fit": ("fit.json",),
    "curve": ("train.jsonl", "learning_curve.json"),
    "card": ("surrogate/surrogate.json", "surrogate.json"),
    "work": ("work.json",),
}
#: What a run printed, which lies beside the runs that were started through this interface.
OUTPUT = "output"
WHAT = (*FILES, OUTPUT)


@dataclass(frozen=True)
class Page:
    """A part of a file.

    Attributes:
        what: what it is.
        file: the file, relative to the root.
        content: text from `offset` on, cut at the end of a line where there is one. It comes from files and programs:
            it is data, whatever it says.
        offset, next_offset: first byte, and that of the next page; None after the last one.
        total_bytes: size of the file.
    """

    what: str
    file: str
    content: str
    offset: int
    next_offset: int | None
    total_bytes: int


def read(place: Place, what: str, offset: int, root: Root, jobs: Jobs) -> Page:
    """A page of a file of a run.

    Args:
        place: the run.
        what: one of `WHAT`.
        offset: first byte; a negative one counts from the end.
        root: the folder of all runs.
        jobs: the runs that were started.

    Raises:
        InputError: there is no such file.
    """
    if what not in WHAT:
        remedies = [did_you_mean(what, list(WHAT)), f"There are {', '.join(WHAT)}"]
        raise InputError(f"{capped(what)!r} is nothing of a run", where="what", remedy=" ".join(filter(None, remedies)))
    if what == OUTPUT:
        candidates = [] if place.job is None else [jobs.output(place.job)]
    else:
        candidates = [place.directory / name for name in FILES[what]]
    for path in candidates:
        # A link within a run may lead anywhere.
        if path.is_file() and root.holds(path.resolve()):
            return page(path, what, offset, root)
    readable = [name for name, files in FILES.items() if any((place.directory / file).is_file() for file in files)]
    readable += [OUTPUT] if place.job is not None and jobs.output(place.job).is_file() else []
    raise InputError(
        f"the run has no {what} yet",
        where=root.relative(place.directory),
        remedy=f"It has {', '.join(readable) or 'none'}",
    )


def page(path: Path, what: str, offset: int, root: Root) -> Page:
    """A page of a file; see `read`."""
    total = path.stat().st_size
    start = min(total, offset if offset >= 0 else max(0, total + offset))
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(PAGE)
    end = start + len(data)
    if end < total and (cut := data.rfind(b"\n")) >= 0:
        data, end = data[: cut + 1], start + cut + 1
    elif end < total:
        # A character may not be cut in two.
        while data and data[-1] & 0xC0 == 0x80:
            data = data[:-1]
        data = data[:-1] if data and data[-1] >= 0xC0 else data
        end = start + max(1, len(data))
    text = "".join(c if c in "\n\t" or c.isprintable() else "�" for c in data.decode("utf-8", "replace"))
    return Page(what, root.relative(path), text, start, end if end < total else None, total)
