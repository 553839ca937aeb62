"""`understudy screen`: stream candidates through a trained surrogate and keep the best."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig
from omegaconf.errors import MissingMandatoryValue

from data.errors import InputError
from data.files import write_json
from data.settings import build, existing_file
from data.shards import Shard
from data.terminal import show_pairs
from experiments.application.stage import StageSettings, application
from experiments.screening.candidate_sources import unused_of_candidates
from experiments.screening.carried import chosen_columns
from experiments.screening.design_recheck import RecheckSettings, recheck_designs
from experiments.screening.designs import designs_drawn, designs_in, domain_ranges
from experiments.screening.hit_selection import Diversity
from experiments.screening.library_screen import ScreenConfig, screen_library
from experiments.screening.library_screen import screen as screen_file
from experiments.screening.objective import read_objective
from experiments.screening.published_results import PublishedResults
from experiments.screening.screen_settings import ALL_ROWS
from simulators.requests import Range
from surrogates.family import FAMILIES
from surrogates.learning.devices import enable_compilation_cache
from surrogates.saved import load_surrogate, read_card, surrogate_directory

if TYPE_CHECKING:
    from surrogates.parameters.surrogate import ParameterSurrogate
    from surrogates.properties.surrogate import PropertySurrogate

#: Value of `candidates` for designs that are drawn instead of read.
SAMPLED = "sampled"


@dataclass(frozen=True)
class DesignSampling:
    """How designs are drawn; the keys of `sampling`.

    Attributes:
        count: number of designs.
        seed: seed of the draws; design i depends only on the seed and i, so a larger count extends a smaller one.
        ranges: parameter -> low, high, and log to draw its logarithm; other parameters are drawn from the training
            domain.
    """

    count: int = 1_000_000
    seed: int = 0
    ranges: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScreenSettings(StageSettings):
    """The keys of `understudy screen`."""

    surrogate: str | None = None
    cascade: tuple[str, ...] = ()
    recall: Any = 0.9
    confidence: Any = 0.95
    fdr: Any = None
    rungs: dict[str, Any] = field(default_factory=dict)
    calibration: Any = MISSING
    failures: str = "pass"
    campaign: Any = MISSING
    conformers: Any = MISSING
    candidates: str = MISSING
    out: str = MISSING
    smiles: str = "smiles"
    columns: Any = ()
    standardise: tuple[str, ...] = ()
    top_k: int = 1000
    distinct: bool = True
    filters: tuple[str, ...] = ()
    diversity: Diversity = field(default_factory=Diversity)
    results: str = "all"
    publish: str | None = None
    workers: int | None = None
    shard: str | None = None
    launcher: Any = None
    objective: Any = MISSING
    sampling: DesignSampling = field(default_factory=DesignSampling)
    recheck: Any = MISSING


def screen(config: DictConfig, run_dir: Path) -> None:
    """Screen the candidates of a file or a library, or drawn designs."""
    settings = build(ScreenSettings, config, where="")
    objective = read_objective(config.objective)
    names = ("top_k", "distinct", "smiles", "standardise", "filters", "results", "publish", "workers")
    how = build(ScreenConfig, {name: getattr(settings, name) for name in names}, where="")
    shard = None if settings.shard is None else Shard.parse(settings.shard)
    how = replace(how, columns=chosen_columns(settings.columns), diversity=settings.diversity, shard=shard)
    enable_compilation_cache()
    if settings.cascade:
        # A screen by one surrogate draws nothing, and does not import matplotlib.
        from experiments.pages.page import write_report
        from experiments.screening.cascade.command import cascade_files, run_cascade

        out = Path(settings.out)
        run_cascade(config, objective, how, settings.candidates, out)
        show_pairs("Report", {"page": write_report(out)}, files=cascade_files(out))
        return
    directory = surrogate_directory(settings.surrogate, "surrogate")
    candidates = FAMILIES[read_card(directory)["kind"]].candidates
    surrogate = load_surrogate(directory)
    if candidates is None:
        raise InputError(
            f"{surrogate.name} takes {', '.join(v.name for v in surrogate.spec.inputs)}, not SMILES or rows of numbers",
            where="surrogate",
            remedy="Screen with one of properties or of parameters, such as those of understudy train "
            "task=molecules/properties or fluids/drag",
        )
    SCREENS[candidates](surrogate, settings, replace(how, objective=objective), config)


def _screen_molecules(
    surrogate: PropertySurrogate, settings: ScreenSettings, how: ScreenConfig, config: DictConfig
) -> None:
    """Screen the molecules of a file or of a prepared library."""
    screen_file(surrogate, existing_file(settings.candidates, "candidates"), Path(settings.out), how)


def _screen_designs(
    surrogate: ParameterSurrogate, settings: ScreenSettings, how: ScreenConfig, config: DictConfig
) -> None:
    """Screen rows of parameters, and solve the best ones if a simulator is named.

    Raises:
        InputError: the surrogate has no intervals, or the candidates or ranges have other parameters.
    """
    recheck = build(RecheckSettings, config.recheck, where="recheck")
    layout, out = surrogate.facts.layout, Path(settings.out)
    if lacking := [t for t in surrogate.targets if t not in surrogate.facts.conformal]:
        raise InputError(
            f"the surrogate has no intervals of {', '.join(lacking)}",
            where="surrogate",
            remedy="Train it with samples set aside for calibration: the third of data.parts",
        )
    if recheck.simulator is not None and recheck.random and how.results != ALL_ROWS:
        raise InputError(
            "designs at random are drawn from the results, which then have to hold all of them",
            where="results",
            remedy="Write results=all, or recheck.random=0",
        )
    simulator = None if recheck.simulator is None else recheck.build_simulator()
    if settings.candidates == SAMPLED:
        sampling = settings.sampling
        ranges = domain_ranges(surrogate) | {
            str(name): Range.read(value, f"sampling.ranges.{name}") for name, value in sampling.ranges.items()
        }
        library = designs_drawn(layout.columns, ranges, sampling.count, sampling.seed)
    else:
        file = existing_file(settings.candidates, "candidates")
        library = designs_in(file, layout.columns, layout.units, how.columns)
    summary = screen_library(surrogate, library, out, how)
    if simulator is not None:
        recheck_metrics = recheck_designs(surrogate, simulator, out, how.objective, recheck)
        write_json(out / "metrics.json", {**summary.metrics(), **recheck_metrics})
        if how.publish is not None:
            PublishedResults.at(how.publish, out).put_end()


#: Kind of candidates -> what screens them.
SCREENS: Mapping[str, Callable[[Any, ScreenSettings, ScreenConfig, DictConfig], None]] = {
    "molecules": _screen_molecules,
    "numbers": _screen_designs,
}


def unused_in_screen(config: DictConfig) -> dict[str, str]:
    """Keys that this kind of surrogate or candidates does not use, with the reason; see `application.strict`."""
    if config.cascade:
        replaced = dict.fromkeys(("surrogate", "sampling", "recheck"), "a cascade has rungs")
        replaced["shard"] = "the thresholds of a cascade are set on all candidates"
        replaced |= dict.fromkeys(
            ("filters", "diversity", "results", "publish"), "a cascade keeps all that its promise needs"
        )
        if config.fdr is not None:
            replaced |= dict.fromkeys(("recall", "confidence"), "fdr promises a share of hits in a shortlist instead")
            sampled = "a shortlist takes uniform labels, and leaves out a candidate without an answer"
            replaced |= dict.fromkeys(
                ("calibration.sampling", "calibration.certain", "calibration.stack", "failures"), sampled
            )
        return replaced | unused_of_candidates(Path(str(config.candidates)))
    try:
        kind = str(read_card(surrogate_directory(config.surrogate, "surrogate"))["kind"])
        numbers = FAMILIES[kind].candidates == "numbers"
    except (InputError, MissingMandatoryValue):
        # The stage itself reports this error.
        return {}
    alone = ("recall", "confidence", "fdr", "rungs", "calibration", "failures", "campaign", "conformers")
    unused: dict[str, str] = dict.fromkeys(alone, "only a cascade, cascade=[RUNG,...], promises a recall")
    if numbers:
        unused |= dict.fromkeys(("smiles", "standardise", "filters", "diversity"), "candidates are rows of numbers")
        unused["workers"] = "rows of numbers are parsed where they are read"
    else:
        unused |= unused_of_candidates(Path(str(config.candidates)))
        unused["recheck"] = "only a screen of parameters is re-checked; understudy pipeline re-checks molecules"
    if not numbers or str(config.candidates) != SAMPLED:
        unused["sampling"] = "nothing is drawn without a surrogate of parameters and candidates=sampled"
    else:
        unused["columns"] = "designs that are drawn have no columns but their parameters"
    if numbers and config.recheck.simulator is None:
        unused["recheck"] = "nothing is solved without recheck.simulator"
    if config.shard is not None:
        unused["recheck"] = "the best are known once understudy merge has merged the shards"
        unused["publish"] = "understudy publish copies the merged results"
    return unused


_application = application("screen", screen, unused=unused_in_screen)


def main() -> None:
    """Run the stage; the settings of rungs, whose names the user chooses, are new keys without a plus sign."""
    sys.argv[1:] = [f"++{argument}" if argument.startswith("rungs.") else argument for argument in sys.argv[1:]]
    _application()
