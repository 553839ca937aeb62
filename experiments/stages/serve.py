"""`understudy serve`: answer the requests of HTTP with a trained surrogate or a calibrated cascade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from omegaconf import MISSING, DictConfig
from omegaconf.errors import MissingMandatoryValue

from data.errors import InputError
from data.extras import MissingExtraError
from data.settings import build
from experiments.application.stage import StageSettings, application
from surrogates.learning.devices import enable_compilation_cache

#: Packages of the extra `serve`.
PACKAGES = ("starlette", "uvicorn", "prometheus_client")
#: Keys that only some kinds use, and why the others do not.
USED_BY: Mapping[str, tuple[str, ...]] = {
    "workers": ("properties",),
    "standardise": ("properties",),
    "head": ("potentials",),
    "largest": ("properties", "potentials", "mixture", "meshes"),
    "neighbours": ("potentials", "mixture"),
}
WHY = {
    "standardise": "reads no SMILES",
    "workers": "reads its inputs in the process of the server",
    "head": "has no heads to choose from",
    "largest": "takes inputs of one size",
    "neighbours": "takes no periodic structures",
}


@dataclass(frozen=True)
class ServeSettings(StageSettings):
    """The keys of `understudy serve`; the limits are those of `experiments.serving.limits.RequestLimits`.

    Attributes:
        surrogate: directory of a surrogate, of the run that trained it, or of a cascade.
        host: address to listen on.
        port: port to listen on; 0 for a free one.
        workers: processes that parse SMILES; None for one for each core.
        standardise: steps of standardisation of molecules, as in training.
        head: head of a potential; None for the one that was trained last.
        largest: most atoms or vertices of an input; None for the choice of the kind.
        neighbours: most neighbours of an atom of a periodic structure; None to refuse these.
    """

    surrogate: str | None = MISSING
    host: str = "127.0.0.1"
    port: int = 8765
    max_batch: int = 1024
    max_wait_ms: float = 2.0
    queue: int = 65_536
    body_mb: float = 64.0
    timeout_s: float = 30.0
    workers: int | None = None
    standardise: tuple[str, ...] = ()
    head: str | None = None
    largest: int | None = None
    neighbours: int | None = None


def serve(config: DictConfig, run_dir: Path) -> None:
    """Serve a surrogate until the command is stopped."""
    settings = build(ServeSettings, config, where="")
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            problem = f"serving needs the package {package}, which cannot be imported: {error}"
            raise MissingExtraError(problem, "serve", where="serve") from error
    from experiments.serving.command import serve as serve_until_stopped
    from experiments.serving.kinds.loading import load_answerer
    from experiments.serving.limits import RequestLimits

    enable_compilation_cache()
    limits = RequestLimits(
        settings.max_batch, settings.max_wait_ms, settings.queue, settings.body_mb, settings.timeout_s
    )
    kind, answerer = load_answerer(
        settings.surrogate,
        workers=settings.workers,
        standardise=settings.standardise,
        head=settings.head,
        largest=settings.largest,
        neighbours=settings.neighbours,
        max_batch=settings.max_batch,
    )
    serve_until_stopped(kind, answerer, limits, settings.host, settings.port, run_dir)


def unused_in_serving(config: DictConfig) -> dict[str, str]:
    """Keys that this kind does not use, with the reason; see `experiments.application.strict`."""
    from experiments.serving.kinds.loading import CASCADE_KIND, kind_in

    try:
        kind, _ = kind_in(config.surrogate)
    except (InputError, MissingMandatoryValue):
        # The stage itself reports this error.
        return {}
    who = "a cascade" if kind == CASCADE_KIND else f"a surrogate of {kind}"
    return {key: f"{who} {WHY[key]}" for key, kinds in USED_BY.items() if kind not in kinds}


main = application("serve", serve, unused=unused_in_serving)
