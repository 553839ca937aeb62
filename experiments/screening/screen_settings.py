"""What is screened, and how: candidates of any kind, and the settings of a screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.molecules.alerts import check_catalogues
from data.reading_summary import Reading
from data.shards import Shard
from experiments.screening.candidate_sources import Source
from experiments.screening.domain_summary import DomainSummary
from experiments.screening.hit_selection import Diversity
from experiments.screening.objective import Objective
from experiments.screening.readings import candidates_read, standard_said
from experiments.screening.screen_summary import ScreenSummary
from simulators.chemistry.standardise import check_steps

#: Which rows the results of a screen hold.
ALL_ROWS, ELIGIBLE_ROWS, NO_ROWS = "all", "eligible", "none"
RESULTS = (ALL_ROWS, ELIGIBLE_ROWS, NO_ROWS)


@dataclass(frozen=True)
class ScreenInput:
    """Candidates to be screened.

    Attributes:
        source: yields the candidates.
        identity: identifies the candidates; JSON-serialisable.
        name: name of their file in `rejects.csv`.
        where: origin of the candidates, for error messages.
        settings: other settings that the results depend on; JSON-serialisable.
        kind: name of a candidate, in the singular.
        named: columns of the results that identify a candidate.
        remedy: advice if no row is a candidate.
    """

    source: Source
    identity: Mapping[str, Any]
    name: str
    where: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "molecule"
    named: tuple[str, ...] = ("smiles",)
    remedy: str = ""

    def reading(self, summary: ScreenSummary, rejects: Path, domain: DomainSummary | None = None) -> Reading:
        """What a screen read of the candidates.

        Args:
            summary: summary of the screen.
            rejects: `rejects.csv` of the screen.
            domain: what a sample of them is to the training domain; None if it is not known.
        """
        return candidates_read(
            self.where,
            self.source.description,
            rejects,
            total=summary.read,
            used=summary.valid,
            quantities=None if domain is None else domain.said(),
            assumed=self._standard_said(summary),
        )

    def _standard_said(self, summary: ScreenSummary) -> tuple[str, ...]:
        steps = self.settings.get("standardise") or ()
        if summary.forms is not None:
            return standard_said(steps, summary.forms)
        said = f"standardise={','.join(steps)}: molecules whose form changed are counted with results=all alone"
        return (said,) if steps else ()


@dataclass(frozen=True)
class ScreenConfig:
    """How to screen.

    Attributes:
        top_k: number of the best candidates in `top.csv`; it may change when a finished screen is run again.
        smiles: column of a table that holds SMILES.
        columns: columns of the candidates that results repeat, such as identifiers; None for all. One that has the name
            of a column of the results is called NAME_input there.
        standardise: steps of standardisation before prediction (`simulators.chemistry.standardise`), which should be
            those of the training molecules; results keep the SMILES of the file beside `standard_smiles`.
        distinct: whether `top.csv` has one row for each molecule, however it is written (`data.identity`).
        objective: property to optimise and windows of others.
        filters: catalogues of structural alerts, by `data.molecules.alerts`; a candidate with an alert is no hit. Like
            `top_k`, they may change when a finished screen is run again.
        diversity: how unlike hits are picked; it may change too.
        workers: number of parsing processes; None for one for each core that this process may use.
        results: which rows the results hold: "all"; "eligible", those in the domain and in all windows; or "none", only
            those among which the best are sought, so that `top_k`, `filters` and `diversity` can no longer change.
        chunk_rows: rows that are parsed, and then predicted, together.
        part_rows: rows of a Parquet part; a killed run loses at most those of two parts.
        streams: number of concurrent predictions, so that packing one overlaps with computing another.
        niceness: niceness of the parsing processes, so that predictions have priority.
        compression: compression of the parts: zstd, snappy, lz4 or none.
        publish: URL of a bucket that receives each commit of the results as well; None for none.
        shard: part of the candidates that is screened; None: all. `out` is then `Shard.directory` of the whole output.

    Raises:
        ValueError: a count is not positive, or a step of `standardise` is unknown.
    """

    top_k: int = 1000
    smiles: str = "smiles"
    columns: tuple[str, ...] | None = ()
    standardise: tuple[str, ...] = ()
    distinct: bool = True
    objective: Objective = field(default_factory=Objective)
    filters: tuple[str, ...] = ()
    diversity: Diversity = field(default_factory=Diversity)
    results: str = ALL_ROWS
    workers: int | None = None
    chunk_rows: int = 16_384
    part_rows: int = 131_072
    streams: int = 2
    niceness: int = 5
    compression: str = "zstd"
    publish: str | None = None
    shard: Shard | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "standardise", tuple(self.standardise))
        check_steps(self.standardise)
        if self.results not in RESULTS:
            raise ValueError(f"results must be one of {', '.join(RESULTS)}, got {self.results!r}")
        object.__setattr__(self, "filters", check_catalogues(self.filters, "filters"))
        for name in ("chunk_rows", "part_rows", "streams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be 1 or more, got {self.workers}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 or more, got {self.top_k}")

    def kept_rows(self) -> dict[str, Any]:
        """The settings that decide which rows the results hold, beyond those of screens of earlier versions."""
        if self.results == ALL_ROWS:
            return {}
        chosen: dict[str, Any] = {"results": self.results}
        if self.results == NO_ROWS:
            best = {"top_k": self.top_k, "distinct": self.distinct, "filters": list(self.filters)}
            chosen["best"] = {**best, "diversity": asdict(self.diversity)}
        return chosen
