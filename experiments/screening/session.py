"""One session of a screen: from the last committed part to the end of the candidates.

    file -> chunks of rows -> parsing processes -> graphs -> predict threads -> Parquet parts, top k

Every arrow is a bounded queue and every step keeps the order of the file. Memory therefore does not grow with the file.
The parent process handles whole arrays, never single candidates.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from data.errors import InputError
from data.terminal import ProgressBar, progress_bar
from experiments.application.usage import PeakMemory, cpu_seconds
from experiments.screening.best_rows import TopK
from experiments.screening.candidate_chunks import Candidates, Reject
from experiments.screening.cheaper_answers import answered, stands_on_simulator
from experiments.screening.ledger import Commit, Spent, Tally
from experiments.screening.objective import targets_of
from experiments.screening.pieces import LibraryPiece
from experiments.screening.screen_settings import ELIGIBLE_ROWS, NO_ROWS, ScreenConfig, ScreenInput
from experiments.screening.sink import Sink, result_batch
from experiments.screening.workers import ParserPool, in_order
from surrogates.abilities import PredictsTables

#: Rows that are parsed and predicted before time is measured, so that everything is compiled.
WARM_UP_ROWS = 2048


@dataclass
class Session:
    """One session of a screen: from the last committed part to the end of the file.

    Attributes:
        surrogate, library, sink, config: see `screen_library`.
        began: when the command began, as `time.perf_counter` tells it.
        best: the best rows so far; None if none are ranked.
        look: called with the parsing processes before anything is predicted; None for nothing.
    """

    surrogate: PredictsTables
    library: ScreenInput
    sink: Sink
    config: ScreenConfig
    began: float
    best: TopK | None = None
    look: Callable[[ParserPool], None] | None = None
    title: ClassVar[str] = "screening"

    def run(self, progress: bool) -> None:
        """Read, predict and write until the file ends."""
        cpu = cpu_seconds()
        before = self.sink.last.spent() if self.sink.last else Spent()
        config = self.config
        workers = config.workers or len(os.sched_getaffinity(0))
        pool = ParserPool(workers, niceness=config.niceness, standardise=config.standardise)
        with ExitStack() as stack:
            memory = stack.enter_context(PeakMemory())
            threads = stack.enter_context(ThreadPoolExecutor(self.config.streams, thread_name_prefix="predict"))
            stack.callback(pool.close)
            self._warm_up(pool)
            start = time.perf_counter()

            def spent() -> Spent:
                return Spent(
                    before.seconds + time.perf_counter() - start,
                    before.core_seconds + cpu_seconds() - cpu,
                    before.startup_seconds + start - self.began,
                    max(before.peak_memory_mb, memory.peak_mb),
                )

            with progress_bar(self.title, 1, show=progress) as bar:
                self._stream(pool, threads, spent, bar)

    def _warm_up(self, pool: ParserPool) -> None:
        """Start the processes, and compile by predicting a few rows whose results are discarded."""
        source = self.library.source
        if source.parses:
            pool.start()
        if self.look is not None:
            self.look(pool)
        self.surrogate.compile()
        if stands_on_simulator(self.surrogate):
            return
        for piece in islice(source.pieces(WARM_UP_ROWS, *source.start), 2):
            encoded = piece.load(pool).result()
            if len(encoded.lines):
                self.predict(piece, encoded)
                return

    def ask_cheaper(self, encoded: Candidates) -> tuple[Candidates, tuple[Any, ...]]:
        """The rows that can be predicted, and further arguments of `predict_table`, of a cheaper simulator if any."""
        if not (len(encoded.lines) and stands_on_simulator(self.surrogate)):
            return encoded, ()
        encoded, on = answered(self.surrogate, encoded)
        return encoded, (on,)

    def predict(self, piece: LibraryPiece, encoded: Candidates) -> tuple[pa.RecordBatch | None, Tally, list[Reject]]:
        """The rows of a chunk as they are written, its counts and its rejected rows; called by several threads."""
        objective = self.config.objective
        encoded, more = self.ask_cheaper(encoded)
        tally = Tally(encoded.rows, len(encoded.lines))
        if not len(encoded.lines):
            return None, tally, encoded.rejects
        values = self.surrogate.predict_table(encoded.table, *more)
        missing = objective.missing(targets_of(values))
        if missing:
            raise InputError(
                f"the surrogate does not predict {' and '.join(missing)}",
                where="objective",
                remedy=f"It predicts {', '.join(targets_of(values))}",
            )
        batch = result_batch(encoded, values, objective, piece.carried)
        domain = np.asarray(values["in_domain"], bool)
        tally = replace(
            tally,
            out_of_domain=int((~domain).sum()),
            in_window=int((domain & objective.in_windows(values)).sum()),
            eligible=int(np.isfinite(batch.column("score").to_numpy()).sum()),
        )
        return batch, tally, encoded.rejects

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a chunk that the results hold; the best are sought among them."""
        if self.best is None:
            return batch
        competing = self.best.add(batch)
        if self.config.results == NO_ROWS:
            return batch.take(pa.array(competing))
        if self.config.results == ELIGIBLE_ROWS:
            return batch.filter(pa.array(np.isfinite(batch.column("score").to_numpy())))
        return batch

    def _stream(
        self, pool: ParserPool, threads: ThreadPoolExecutor, spent: Callable[[], Spent], bar: ProgressBar
    ) -> None:
        config, last = self.config, self.sink.last
        position, line = (last.position, last.line) if last else self.library.source.start
        part, total = (last.part + 1, last.tally()) if last else (0, Tally())
        session = 0
        batches: list[pa.RecordBatch] = []
        rejects: list[Reject] = []
        rows = 0
        start = time.perf_counter()
        pieces = self.library.source.pieces(config.chunk_rows, position, line)
        parsed = in_order(pieces, lambda piece: piece.load(pool), pool.workers + 2)
        predicted = in_order(parsed, lambda item: threads.submit(self.predict, *item), config.streams)
        for (piece, _), (batch, tally, lost) in predicted:
            position, line = piece.end, piece.line
            total, rows, session = total + tally, rows + tally.read, session + tally.read
            rejects += lost
            if batch is not None and (batch := self._kept(batch)).num_rows:
                batches.append(batch)
            rate = session / (time.perf_counter() - start)
            bar.update(piece.done, note=f"{total.read:,} {self.library.kind}s, {rate:,.0f}/s")
            if rows >= config.part_rows:
                self.sink.commit(batches, rejects, Commit.of(part, position, line, total, spent()))
                part, rows, batches, rejects = part + 1, 0, [], []
        if rows:
            self.sink.commit(batches, rejects, Commit.of(part, position, line, total, spent()))
            part += 1
        self.sink.wait()
        if self.best is not None:
            self.sink.write_top(self.best)
        self.sink.commit([], [], Commit.of(part, position, line, total, spent(), complete=True))
        self.sink.wait()
        bar.update(1)
