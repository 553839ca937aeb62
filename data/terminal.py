"""What a person sees while a command runs and when it ends: a progress bar and a closing table.

The bar is on standard error, and only where that is a terminal: a log of a batch system holds no frames of it. What it
says is in `progress.json` of the run too (`data.progress`). The table is on standard output, with each row on one line
where that is a file or a pipe. A program reads the tables in `tables_collected`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from data.progress import Step, current_progress


@dataclass(frozen=True)
class PrintedTable:
    """A table that a command printed.

    Attributes:
        title: above the table.
        columns: heads of its columns; none in a table of names and texts.
        rows: its cells, as text.
        files: name -> path of what the table says was written.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    files: Mapping[str, str] = field(default_factory=dict)


_COLLECTED: list[list[PrintedTable]] = []


@contextmanager
def tables_collected() -> Iterator[list[PrintedTable]]:
    """Collect the tables that are printed in the block, in their order, besides printing them."""
    tables: list[PrintedTable] = []
    _COLLECTED.append(tables)
    try:
        yield tables
    finally:
        _COLLECTED.remove(tables)


def _collect(table: PrintedTable) -> None:
    for tables in _COLLECTED:
        tables.append(table)


class ProgressBar:
    """A bar that `progress_bar` shows.

    Args:
        progress: what draws it.
        label: text before the bar.
        total: see `progress_bar`.
        done: how much was done before.
    """

    def __init__(self, progress: Progress, label: str, total: float | None, done: float) -> None:
        self._progress = progress
        self._task = progress.add_task(escape(label), total=total, note="", count="")
        self._progress.update(self._task, completed=done)
        self._count()
        #: What `progress.json` of the run says of this bar, whether it is shown or not.
        self._step = Step(label, total, done)
        if (file := current_progress()) is not None:
            file.begin(self._step)

    def _count(self) -> None:
        task = next(task for task in self._progress.tasks if task.id == self._task)
        if task.total is None:
            count = f"{task.completed:,.0f}"
        elif task.total == 1:
            count = f"{task.completed:.0%}"
        else:
            count = f"{task.completed:,.0f} of {task.total:,.0f}"
        self._progress.update(self._task, count=count)

    def advance(self, count: float = 1) -> None:
        """So much more is done."""
        self._progress.advance(self._task, count)
        self._step.done += count
        self._count()

    def update(
        self,
        done: float | None = None,
        *,
        total: float | None = None,
        label: str | None = None,
        note: str | None = None,
        failures: Mapping[str, int] | None = None,
    ) -> None:
        """Change what is not None.

        Args:
            done: how much is done in all.
            total: how much there is to do.
            label: text before the bar.
            note: text behind it, such as a rate.
            failures: kind of failure -> count, for `progress.json`; the bar does not show it.
        """
        step = self._step
        step.done = step.done if done is None else float(done)
        step.total = step.total if total is None else total
        step.label = step.label if label is None else label
        step.note = step.note if note is None else note
        step.failures = step.failures if failures is None else failures
        text = None if label is None else escape(label)
        self._progress.update(self._task, completed=done, total=total, description=text)
        if note is not None:
            self._progress.update(self._task, note=escape(note))
        self._count()

    def say(self, text: str) -> None:
        """Print a line above the bar, also where no bar is shown."""
        self._progress.console.print(escape(text), highlight=False)


@contextmanager
def progress_bar(label: str, total: float | None, *, done: float = 0, show: bool = True) -> Iterator[ProgressBar]:
    """Show a bar with the time that has passed and the time that is left, until the block ends.

    Args:
        label: text before the bar.
        total: how much there is to do: a count, 1 where shares are reported, or None if it is unknown.
        done: how much was done before.
        show: whether to show it at all; it is never shown where standard error is no terminal.
    """
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (show and console.is_terminal),
    )
    with progress:
        yield ProgressBar(progress, label, total, done)


def show_pairs(
    title: str,
    rows: Mapping[str, object] | Sequence[tuple[str, object]],
    *,
    files: Mapping[str, Path] | None = None,
) -> None:
    """Print the table that ends a command: names and texts, none of which is truncated.

    Args:
        title: above the table.
        rows: names and what stands beside them; a name may occur several times in a sequence. A path is taken as the
            place of what the command wrote.
        files: more such places, which texts of the table name.
    """
    items = list(rows.items() if isinstance(rows, Mapping) else rows)
    pairs = [(name, str(value)) for name, value in items]
    places = {name: value for name, value in items if isinstance(value, Path)} | dict(files or {})
    _collect(PrintedTable(title, (), tuple(pairs), {name: str(path) for name, path in places.items()}))
    console = Console()
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    # Names stay whole on a line, unless they leave too little room for the texts.
    longest = max((len(name) for name, _ in pairs), default=0)
    table.add_column(no_wrap=longest <= console.width // 2, overflow="fold")
    table.add_column(overflow="fold")
    for name, text in pairs:
        table.add_row(f"[dim]{escape(name)}[/]", escape(text))
    _print(table, console)


def columns_table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]] = (), *, texts: int = 1, caption: str | None = None
) -> Table:
    """A table with a head for each column, which `print_table` prints.

    Args:
        title: above the table.
        heads: names of the columns.
        rows: the cells, as text; rows with a style are added to the table that is returned.
        texts: number of columns on the left that hold text; the others hold numbers, aligned at the right.
        caption: below the table.
    """
    table = Table(
        title=escape(title), title_justify="left", caption=caption, caption_justify="left", box=None, pad_edge=False
    )
    for number, head in enumerate(heads):
        table.add_column(escape(head), justify="left" if number < texts else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def print_table(table: Table, console: Console | None = None, *, files: Mapping[str, Path] | None = None) -> None:
    """Print a table; in a file or a pipe, which have no width, each row is on one line.

    Args:
        table: see `columns_table`.
        console: where to; standard output unless it is given.
        files: name -> place of what was written and what the table is about.
    """
    columns = [[_plain(cell) for cell in column.cells] for column in table.columns]
    heads = tuple(_plain(column.header) for column in table.columns)
    places = {name: str(path) for name, path in (files or {}).items()}
    _collect(PrintedTable(_plain(table.title or ""), heads, tuple(zip(*columns, strict=True)), places))
    _print(table, console or Console())


def _plain(cell: object) -> str:
    """The text of a cell, without its markup."""
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)


def _print(table: Table, console: Console) -> None:
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)
