"""Models in other interpreters: whole answers, failures with their reasons, and recovery after a real kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from data.errors import InputError
from data.spec import SimulationError
from simulators.chemistry.teachers.pretrained import ask_structures, batches
from simulators.chemistry.variables import Geometry
from simulators.workers.model_process import ModelProcess, ServedModel, describe, process_of

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "tests/helpers/harmonic_model.py"
EACH_ATOM = frozenset({"forces"})
SPRINGS = ServedModel(Path(sys.executable), MODULE, json.dumps({"constant": 2.0, "rest": 1.5}))


@pytest.fixture(scope="module")
def springs() -> Iterator[ModelProcess]:
    process = ModelProcess(SPRINGS)
    yield process
    process.close()
    assert not process.descendants()


def dimer(distance: float, numbers: tuple[int, int] = (1, 1)) -> Geometry:
    return Geometry(np.array(numbers, np.int32), np.array([[0.0, 0, 0], [0, 0, distance]]))


def asked(process: ModelProcess, *geometries: Geometry, **facts: object) -> list:
    return ask_structures(process, geometries, facts, EACH_ATOM)


def test_a_model_describes_itself_and_what_cannot_is_named(tmp_path: Path) -> None:
    assert describe(Path(sys.executable), MODULE) == {"version": "harmonic 1", "weights": "springs"}
    broken = tmp_path / "broken_model.py"
    broken.write_text("import no_such_package\n")
    with pytest.raises(InputError, match="broken_model: ModuleNotFoundError: No module named 'no_such_package'"):
        describe(Path(sys.executable), broken)
    with pytest.raises(InputError, match="cannot be started: No such file"):
        describe(tmp_path / "python", MODULE)


def test_a_batch_is_answered_as_its_structures_are_one_by_one(springs: ModelProcess) -> None:
    geometries = [dimer(distance) for distance in (1.0, 1.5, 2.25)]
    for geometry, answer in zip(geometries, asked(springs, *geometries), strict=True):
        stretch = geometry.positions[1, 2] - 1.5
        assert answer["energy"] == pytest.approx(stretch**2)
        assert answer["forces"][1, 2] == pytest.approx(-2 * stretch)
        (alone,) = asked(springs, geometry)
        assert all(np.array_equal(alone[name], values) for name, values in answer.items())


def test_one_structure_of_a_batch_fails_alone(springs: ModelProcess) -> None:
    answers = asked(springs, dimer(1.0), dimer(1.0, (2, 2)), dimer(2.0))
    assert isinstance(answers[1], SimulationError)
    assert (answers[1].kind, answers[1].message) == ("invalid_input", "no springs to helium")
    assert [float(answers[place]["energy"]) for place in (0, 2)] == pytest.approx([0.25, 0.25])
    assert answers[2]["forces"][1, 2] == pytest.approx(-1.0)


def test_a_structure_that_kills_the_process_takes_no_other_with_it(springs: ModelProcess) -> None:
    answers = asked(springs, dimer(1.0), dimer(1.0, (99, 1)), dimer(2.0))
    assert isinstance(answers[1], SimulationError)
    assert answers[1].kind == "crashed"
    assert "exit status 9" in answers[1].message
    assert [float(answers[place]["energy"]) for place in (0, 2)] == pytest.approx([0.25, 0.25])


def test_failures_have_their_kind_and_reason_and_the_next_request_is_answered(springs: ModelProcess) -> None:
    for facts, kind, message in (
        ({"raise": True}, "crashed", "RuntimeError: no answer to this"),
        ({"memory": True}, "out_of_memory", "RuntimeError: DefaultCPUAllocator"),
        ({"exit": True}, "crashed", "ended by exit status 3: the last words"),
    ):
        (failure,) = asked(springs, dimer(1.0), **facts)
        assert (failure.kind, message in failure.message) == (kind, True), failure
        # Megabytes of output neither block the model nor come into its answers.
        (answer,) = asked(springs, dimer(1.0), print=3_000_000)
        assert answer["energy"] == pytest.approx(0.25)


def test_a_killed_process_fails_its_request_and_is_replaced(springs: ModelProcess) -> None:
    arrays = {"numbers": np.array([1]), "positions": np.zeros((1, 3)), "counts": np.array([1])}
    first = springs.ask({}, arrays)[0]["pid"]
    os.kill(first, signal.SIGKILL)
    with pytest.raises(SimulationError, match=r"crashed.*SIGKILL"):
        springs.ask({}, arrays)
    assert springs.ask({}, arrays)[0]["pid"] != first


def test_what_cannot_be_loaded_is_a_missing_component() -> None:
    process = ModelProcess(ServedModel(Path(sys.executable), MODULE))
    for failure in asked(process, dimer(1.0), dimer(2.0)):
        assert failure.kind == "missing_component"
        assert failure.message == "harmonic_model: ValueError: no length at rest"
    assert not process.descendants()


def test_a_model_is_loaded_once_for_all_and_ends_with_its_parent() -> None:
    script = (
        "import sys, os, signal; from pathlib import Path; import numpy as np\n"
        "from simulators.workers.model_process import ServedModel, process_of\n"
        f"model = ServedModel(Path(sys.executable), Path({str(MODULE)!r}), {SPRINGS.settings!r})\n"
        "arrays = {'numbers': np.array([1]), 'positions': np.zeros((1, 3)), 'counts': np.array([1])}\n"
        "pids = {process_of(model).ask({}, arrays)[0]['pid'] for _ in range(2)}\n"
        "print(*pids, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    (pid,) = ended.stdout.split()
    deadline = time.monotonic() + 30
    while psutil.pid_exists(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(int(pid))
    assert process_of(SPRINGS) is process_of(ServedModel(Path(sys.executable), MODULE, SPRINGS.settings))


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [([], []), ([5], [[5]]), ([4, 4, 4], [[4, 4], [4]]), ([20, 1, 9, 1], [[20], [1, 9], [1]])],
)
def test_batches_hold_as_much_as_they_may(sizes: list[int], parts: list[list[int]]) -> None:
    assert [sizes[part] for part in batches(sizes, 10)] == parts
