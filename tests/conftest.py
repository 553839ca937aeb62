"""Shared fixtures: where the real data lies, and an environment that no test leaks into."""

from __future__ import annotations

import atexit
import fcntl
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Imports make garbage of hardly anything; looking for it took a seventh of the time that collecting the tests takes.
gc.set_threshold(100_000, 50, 50)
# A shell that starts the tests in the background lets them ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests start many interpreters; without bytecode each of them, and each run, would compile every module again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Programs that run once are compiled for a quick start, each in one piece: half of the time of the tests was LLVM's.
# Set XLA_FLAGS to nothing to test with all optimisations.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1",
)
if "PYTEST_XDIST_WORKER" not in os.environ:
    # One cache of compiled programs for this run alone, shared by its processes: never the user's own.
    _cache = tempfile.mkdtemp(prefix="understudy-tests-")
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = _cache
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(_cache) / "understudy" / "jax")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# How long an example takes depends on the machine and on what has been compiled.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")

# No test loses the power: that what must be synced is synced, and when, is what the fixture `disk` shows.
os.fsync = os.fdatasync = lambda fd: None

# Before any of the packages is imported; it imports JAX, which reads the settings above.
import array_checks  # noqa: E402
import quick_lowering  # noqa: E402

array_checks.install()
quick_lowering.install()
import quick_yaml  # noqa: E402

quick_yaml.install()

REPOSITORY = Path(__file__).resolve().parents[1]
# Programs and kernels that tests start import the packages of this clone, whichever one is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))

#: Files that take longest, the longest first: they begin first, so that no worker is left alone with one at the end.
SLOWEST = (
    "guides/test_chemist_lines.py",
    "guides/test_potential_lines.py",
    "guides/test_fluid_lines.py",
    "experiments/stages/test_pipeline.py",
    "experiments/stages/test_active.py",
    "experiments/stages/test_devices.py",
    "experiments/stages/test_stages.py",
    "experiments/application/test_configs_run.py",
    "guides/test_forecaster_lines.py",
    "guides/test_openfoam_lines.py",
    "experiments/agents/test_agent_guide.py",
    "simulators/workers/test_misbehaving.py",
    "surrogates/learning/test_processes.py",
    "experiments/screening/test_cascade.py",
    "experiments/distillation/test_distilled_frames.py",
    "surrogates/potentials/test_heads.py",
    "surrogates/potentials/test_potential.py",
    "simulators/campaigns/test_campaign.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let one process collect first where no test has been imported before, and the others take the bytecode it wrote.

    In a fresh clone each of four would else compile every module of the tests and of the packages that they use: 87
    seconds of processor time in place of 44.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ or (REPOSITORY / "tests" / "understudy" / "__pycache__").exists():
        return (yield)
    with open(Path(os.environ["XDG_CACHE_HOME"]) / "collecting", "a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        if os.path.getsize(first.name) == 0:
            collected = yield
            first.write("bytecode is written")
            return collected
    return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the slowest files first; the others keep their order."""
    rank = {REPOSITORY / "tests" / name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what was imported out of the collections of garbage that follow."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def compiled_programs() -> Iterator[None]:
    """Drop the compiled programs of a file at its end: each takes 1.5 MB and slows the next, and files share few.

    What outlives a file, such as the modules that it imported, is left out of the later collections of garbage.
    """
    yield
    if (jax := sys.modules.get("jax")) is not None:
        jax.clear_caches()
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; skips where it is absent."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("UNDERSTUDY_DATA", default))
    if not folder.is_dir():
        pytest.skip("the folder of real data is absent; point UNDERSTUDY_DATA at it to run this test")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A directory that the first process to ask for its name fills, and all processes of the run read."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def fill(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / f"once-{name}", shared / f"once-{name}.done"
        with open(shared / f"once-{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return folder

    return fill


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What is done to files from now on, in order: ("sync", name), ("rename", from, to), ("remove", name).

    A test that holds to an order holds to it after a power failure, when only what was synced is certain.
    """
    seen: list[tuple[str, ...]] = []

    def watch(function: str, kind: str) -> None:
        truly = getattr(os, function)

        def watched(*arguments: Any, **options: Any) -> Any:
            if kind == "sync":
                # The name at that moment; a file that is renamed while it is open has its new one.
                seen.append((kind, Path(os.readlink(f"/proc/self/fd/{arguments[0]}")).name))
            result = truly(*arguments, **options)
            if kind != "sync":
                seen.append((kind, *(Path(os.fsdecode(a)).name for a in arguments)))
            return result

        monkeypatch.setattr(os, function, watched)

    for function in ("fsync", "fdatasync"):
        watch(function, "sync")
    for function in ("rename", "replace"):
        watch(function, "rename")
    for function in ("remove", "unlink", "rmdir"):
        watch(function, "remove")
    return seen
