"""Benchmarks of potentials compare models by the stated rule, and the parts of a network add up to the whole."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_potential import SMALL, potential, scattered

from benchmarks import frontier, learning_curve, potential_variants, roofline
from benchmarks.__main__ import NAMES, SUITES, command
from benchmarks.common import Result, report
from benchmarks.mace import Mace
from benchmarks.network_parts import Measured, compile_call, find, record_calls
from benchmarks.potential_learning import LOOP, measure_once, ours, surrogates_to_train, write
from benchmarks.potential_speed import Model, compare_at_equal_error, padding
from data.errors import InputError
from data.structures.batches import Shape, StructureBatches
from data.structures.structures import Structures
from surrogates.learning.machine import MeasuredCost, Peaks, cost, measure

PEAKS = Peaks(flops=1e9, cache=1e9, memory=1e8, transcendentals=1e6)


def test_a_bound_is_the_resource_that_is_needed_longest() -> None:
    work = MeasuredCost(flops=1e6, bytes=4e6, transcendentals=1e3)
    assert work.seconds(PEAKS) == {"arithmetic": 1e-3, "bandwidth": 4e-3, "transcendentals": 1e-3}
    assert work.bound(PEAKS, 8e-3) == ("bandwidth", 0.5)
    assert (work - MeasuredCost(2e6, 1e6, 0.0)) == MeasuredCost(0.0, 3e6, 1e3)


def test_costs_of_a_matrix_product_are_those_of_the_formula() -> None:
    import jax
    import jax.numpy as jnp

    a = jnp.ones((64, 32), jnp.float32)
    b = jnp.ones((32, 16), jnp.float32)
    program_cost = cost(jax.jit(lambda a, b: jnp.exp(a @ b)).lower(a, b).compile())
    assert program_cost.flops == 2 * 64 * 32 * 16
    assert program_cost.transcendentals == 64 * 16
    # At least the inputs once and the result once.
    assert program_cost.bytes >= 4 * (64 * 32 + 32 * 16 + 64 * 16)


def test_peaks_count_all_of_the_work_that_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_second(run: Callable[[], object], rounds: int = 0) -> float:
        run()
        return 1.0

    monkeypatch.setattr("surrogates.learning.machine.SIZES", (128, 256))
    monkeypatch.setattr("surrogates.learning.machine.UNCACHED", 1 << 22)
    monkeypatch.setattr("surrogates.learning.machine.best", one_second)
    peaks = measure()
    assert peaks.flops == 2 * 256**3
    # Two reads and a write of half of the bytes in each round; 2 GiB of arrays in all.
    assert peaks.cache == peaks.memory == 1.5 * (1 << 31)
    assert peaks.transcendentals == 1000 * (1 << 17)


@pytest.mark.parametrize("architecture", list(SMALL))
def test_operations_of_the_parts_add_up_to_the_whole(architecture: str, tmp_path: Path) -> None:
    frames = write(scattered(6, 6), tmp_path / "frames.xyz")
    before = {target: find(target)[2] for target in roofline.PARTS[architecture].values()}
    calls, molecules, name = roofline.trace(potential(SMALL[architecture]), frames, 6)
    assert name == architecture
    assert molecules >= 1
    assert {target: find(target)[2] for target in before} == before, "everything stands where it was"
    total = 0.0
    for part in roofline.PARTS[name]:
        assert calls[part], f"{part} is never called"
        for call in calls[part]:
            total += cost(compile_call(call, gradient=True)[0]).flops
    (whole,) = calls[roofline.ALL]
    expected = cost(compile_call(whole, gradient=False)[0]).flops
    # Gates, scales and sums belong to no part, and what lies between two parts fuses within the whole.
    assert 0.8 * expected < total < 1.1 * expected


def test_a_part_counts_without_those_that_it_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jax
    import jax.numpy as jnp

    (tmp_path / "toy_parts.py").write_text(
        "def inner(a):\n    return a @ a @ a @ a\n\n\ndef outer(a):\n    return inner(a @ a) @ a\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    toy = importlib.import_module("toy_parts")
    a = jnp.ones((32, 32), jnp.float32)
    with record_calls({"outer": "toy_parts:outer", "inner": "toy_parts:inner"}) as calls:
        jax.jit(lambda a: toy.outer(a))(a)
    product = 2 * 32**3
    (outer_call,), (called,) = calls["outer"], calls["inner"]
    assert cost(compile_call(outer_call, gradient=False)[0]).flops == 2 * product, (
        "the argument and the use of the answer"
    )
    assert cost(compile_call(called, gradient=False)[0]).flops == 3 * product


def test_a_part_that_is_gone_is_named() -> None:
    with pytest.raises(LookupError, match=r"surrogates\.potentials\.networks\.ace has no Layer\.nothing"):
        find("surrogates.potentials.networks.ace:Layer.nothing")


def test_the_table_of_the_docs_has_a_line_for_each_part_and_says_what_bounds_it() -> None:
    rows = [
        roofline.RooflineRow("ace", "density", "forward", Measured(2e-3, MeasuredCost(1e6, 0.0, 0.0)), 10),
        roofline.RooflineRow("ace", "density", "gradient", Measured(4e-3, MeasuredCost(0.0, 1e6, 0.0)), 10),
    ]
    results = [Result("machine: exponentials", 1.5, "G/s")] + [r for row in rows for r in row.results(PEAKS)]
    lines = roofline.markdown(results).splitlines()
    assert "| exponentials | 1.5 G/s |" in lines
    assert lines[-2:] == [
        "| ace | density | forward | 200 | 0.1 | 0 | 0 | arithmetic | 50% |",
        "| ace | density | gradient | 400 | 0 | 0.1 | 0 | bandwidth | 25% |",
    ]


def test_the_docs_are_filled_between_their_marks_again_and_again(repository: Path, tmp_path: Path) -> None:
    docs = tmp_path / "performance.md"
    docs.write_text((repository / "docs" / "performance.md").read_text())
    for text in ("| one |", "| two |"):
        roofline.fill(docs, text)
        assert docs.read_text().count(text) == 1
    assert "| one |" not in docs.read_text()
    roofline.fill(docs, "Not measured yet for the networks as they are now.")
    assert docs.read_text().count("roofline: filled by the command above -->") == 1
    (tmp_path / "other.md").write_text("nothing")
    with pytest.raises(InputError, match="no <!-- roofline"):
        roofline.fill(tmp_path / "other.md", "")


def test_padding_is_the_share_of_slots_that_hold_nothing() -> None:
    numbers = [np.ones(n, np.int32) for n in (3, 4, 2)]
    table = Structures.from_arrays(numbers, [np.arange(3.0 * len(z)).reshape(-1, 3) for z in numbers])
    batches = StructureBatches(table, (Shape(2, 4, None),), np.zeros(3, np.int64), 5.0, None)
    # Two batches of two molecules of four atoms: 16 slots for 9 atoms, 64 for 9 + 16 + 4 pairs.
    assert padding(batches) == (1 - 9 / 16, 1 - 29 / 64)


def test_models_are_compared_at_equal_error_and_the_quickest_counts() -> None:
    peer = Model("peer", {"e": 1.0, "f": 5.0}, 100.0)
    quick = Model("quick", {"e": 1.0, "f": 6.0}, 2000.0)
    able = [Model("able", {"e": 0.9, "f": 5.0}, 600.0), Model("slow", {"e": 0.1, "f": 1.0}, 200.0)]
    results = {r.name: r for r in compare_at_equal_error([quick, *able], peer)}
    assert results["models of ours that err no more than the peer on ethanol"].value == 2
    assert results["at equal error (able): mixed batch"].ratio == 6.0
    assert [r.value for r in compare_at_equal_error([quick], peer)] == [0.0]


def speeds() -> list[Result]:
    results = []
    for name, rate, error in (("light", 2000.0, 12.0), ("middle", 500.0, 13.0), ("ace_large", 150.0, 5.0)):
        results.append(Result.against(f"{name}: ethanol energy MAE", 1.0, "meV", "peer 1.0", 2.0))
        results.append(Result.against(f"{name}: ethanol forces MAE", error, "meV/A", "peer 1.0", 6.0))
        results.append(Result.against(f"{name}: mixed batch", rate, "molecules/s", "peer 1.0", 30.0))
    return [*results, Result.against("at equal error (ace_large): mixed batch", 150.0, "molecules/s", "peer 1.0", 30.0)]


def test_the_frontier_leaves_out_what_another_beats_in_both(tmp_path: Path) -> None:
    models = frontier.points(speeds())
    assert [(p.name, p.rate, p.error, p.peer) for p in models] == [
        ("light", 2000.0, 12.0, False),
        ("middle", 500.0, 13.0, False),
        ("ace_large", 150.0, 5.0, False),
        ("peer 1.0", 30.0, 6.0, True),
    ]
    assert [p.name for p in frontier.frontier(models)] == ["light", "ace_large"]
    assert frontier.finding(models) == "ace_large is 5.0 times as quick as peer 1.0, at 0.83 times its error"
    assert frontier.finding(models[:3]) == "light is 13.3 times as quick as ace_large, at 2.4 times its error"
    assert frontier.finding([models[0], models[3]]) == "light errs 2.00 times as much as peer 1.0"


def test_the_figure_is_drawn_from_the_run_of_the_speeds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Run the benchmarks first"):
        frontier.main(["--out", str(tmp_path)])
    report("potential_speed", speeds(), tmp_path, [])
    frontier.main(["--out", str(tmp_path)])
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    values = {row["name"]: row["value"] for row in json.loads((tmp_path / "frontier.json").read_text())}
    assert values["middle: on the frontier"] == 0.0
    assert values["ace_large: on the frontier"] == 1.0
    report("potential_speed", speeds()[:2], tmp_path, [])
    with pytest.raises(InputError, match="no speed of light"):
        frontier.main(["--out", str(tmp_path)])


def test_the_figure_names_its_axes_units_and_models() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    frontier.paint(axes, frontier.points(speeds()))
    assert axes.get_xscale() == "log"
    assert "(molecules/s)" in axes.get_xlabel()
    assert "(meV/Å)" in axes.get_ylabel()
    assert {text.get_text() for text in axes.texts} == {"light", "middle", "ace_large", "peer 1.0"}
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"Understudy", "peer"}


def test_learning_curves_are_those_of_the_trainings(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    with pytest.raises(InputError, match="no such file"):
        learning_curve.main(["--out", str(tmp_path)])
    measured = []
    for minutes, own_error, peer_error in ((90, 2.0, 8.0), (10, 7.0, 116.0)):
        head = f"aspirin, {minutes} CPU minutes, ace"
        measured += [
            Result.against(f"{head}: energy MAE", own_error, "meV", "peer 1.0", peer_error),
            Result.against(f"{head}: forces MAE", 2 * own_error, "meV/A", "peer 1.0", 2 * peer_error),
            Result.against(f"{head}: training", 60.0 * minutes, "s", "peer 1.0", 60.0 * minutes),
        ]
    curves = learning_curve.curves(measured)
    assert list(curves) == [("aspirin", "energy"), ("aspirin", "forces")]
    model, peer = curves["aspirin", "energy"]
    assert (model.name, list(model.errors.items())) == ("ace", [(10.0, 7.0), (90.0, 2.0)])
    assert (peer.name, peer.peer, list(peer.errors.items())) == ("peer 1.0", True, [(10.0, 116.0), (90.0, 8.0)])
    axes = Figure().add_subplot()
    learning_curve.paint(axes, curves["aspirin", "forces"])
    assert [line.get_label() for line in axes.lines] == ["ace", "peer 1.0"]
    assert list(axes.lines[1].get_ydata()) == [232.0, 16.0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["10", "90"]
    with pytest.raises(InputError, match="no errors in it"):
        learning_curve.curves(measured[2:3])
    report("potential_learning", measured, tmp_path, [])
    learning_curve.main(["--out", str(tmp_path)])
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "learning_curve.json").read_text())) == 4


def test_a_finished_training_is_kept_only_for_the_same_settings(tmp_path: Path) -> None:
    runs = []

    def train() -> dict[str, float]:
        runs.append(1)
        return {"seconds": float(len(runs))}

    file = tmp_path / "ace.json"
    assert measure_once(file, ["ace", "10 s"], train, resume=True) == {"seconds": 1.0}
    assert measure_once(file, ["ace", "10 s"], train, resume=True) == {"seconds": 1.0}
    assert measure_once(file, ["ace", "30 s"], train, resume=True) == {"seconds": 2.0}
    assert measure_once(file, ["ace", "30 s"], train, resume=False) == {"seconds": 3.0}


def test_light_models_learn_once_for_the_frontier() -> None:
    options = argparse.Namespace(
        molecules=["ethanol", "aspirin"], minutes=[10.0, 90.0, 30.0], surrogates=["ace", "painn"]
    )
    asked = {(m, t): surrogates_to_train(options, m, t) for m in options.molecules for t in options.minutes}
    assert asked.pop(("ethanol", 90.0)) == ["ace", "painn"]
    assert set(map(tuple, asked.values())) == {("ace",)}


def test_training_tells_how_long_it_waited_and_how_often_it_compiled(tmp_path: Path) -> None:
    frames = scattered(24, 5, fewest=5)
    rng = np.random.default_rng(0)
    labelled = replace(frames, energy=rng.normal(size=24), forces=rng.normal(size=frames.positions.shape))
    atoms = Structures.from_arrays(
        [np.array([z]) for z in (1, 6, 8)], [np.zeros((1, 3))] * 3, [-13.0, -1030.0, -2040.0]
    )
    parts = {
        "train": write(labelled.take(np.arange(20)), tmp_path / "train.xyz"),
        "valid": write(labelled.take(np.arange(20, 24)), tmp_path / "valid.xyz"),
        "isolated": write(atoms, tmp_path / "atoms.xyz"),
    }
    small = ["model.network.features=4", "model.network.layers=1", "model.buckets=1"]
    metrics = ours(tmp_path / "run", parts, "painn", 0.5, small)
    assert set(metrics) == {"seconds", *LOOP}
    assert 0.0 <= metrics["data_wait_share"] <= 1.0
    assert metrics["compilations"] == 1
    assert (tmp_path / "run" / "surrogate").is_dir()


def test_variants_of_a_potential_get_the_processor_time_of_the_base() -> None:
    costs = {
        "base": {"compiling": 10.0, "epoch": 2.0},
        "dear": {"compiling": 16.0, "epoch": 4.0},
        "cheap": {"compiling": 10.0, "epoch": 1.0},
    }
    assert potential_variants.equal_epochs(costs, "base", 30) == {"base": 30, "dear": 13, "cheap": 60}
    with pytest.raises(InputError, match="no epoch of dear"):
        potential_variants.equal_epochs(costs, "base", 4)
    assert potential_variants.variants_of([["a"], ["b", "k=1", "l=2"]]) == {"a": [], "b": ["k=1", "l=2"]}
    with pytest.raises(InputError, match="one name"):
        potential_variants.variants_of([["a"], ["a", "k=1"]])


def test_a_variant_is_the_training_of_its_settings(tmp_path: Path) -> None:
    parts = {"train": write(scattered(2, 5), tmp_path / "train.xyz")}
    plain = potential_variants.task_of_variant(parts, [])
    task = potential_variants.task_of_variant(parts, ["model.network.radial=3", "train.batch_size=5"])
    assert task == replace(
        plain,
        config=replace(plain.config, network=replace(plain.config.network, radial=3)),
        training=replace(plain.training, batch_size=5),
    )


PROGRAM = """#!{python}
import sys
from pathlib import Path
options = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:] if "=" in a)
every, epochs = int(options["eval_interval"]), int(options["max_num_epochs"])
lines, clock = ["2026-01-01 10:00:00.000 INFO: Initial: head: Default, loss=1"], 10.0
for epoch in range(epochs):
    clock += 8.0 if epoch == 0 else 2.0
    if epoch % every == 0:
        lines.append(f"2026-01-01 10:00:{{clock - 10:06.3f}} INFO: Epoch {{epoch}}: head: Default, loss=1")
Path("logs").mkdir()
Path("logs/mace.log").write_text("\\n".join(lines))
Path("mace.model").touch()
Path("mace_stagetwo.model").touch()
"""


def test_time_of_the_peer_has_all_of_its_epochs_and_leaves_the_first_out_of_the_rate(tmp_path: Path) -> None:
    program = tmp_path / "mace_run_train"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    mace = Mace(tmp_path, 1)
    for folder, epochs, seconds in (("few", 4, 14.0), ("many", 24, 54.0)):
        training = mace.train(tmp_path / "a.xyz", tmp_path / "b.xyz", "{}", tmp_path / folder, epochs=epochs)
        assert training.epoch_seconds == pytest.approx(2.0)
        assert training.seconds == pytest.approx(seconds)
        assert training.model == tmp_path / folder / "mace_stagetwo.model"
    with pytest.raises(InputError, match="Run potential_learning first"):
        mace.model(tmp_path)


def test_the_scores_of_the_peer_are_made_without_our_modules_in_its_way(tmp_path: Path) -> None:
    """Python puts a script's folder in front of all packages, and ours holds a module called mace."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$1" {tmp_path}/score.py "$@"\n')
    program.chmod(0o755)
    (tmp_path / "mace.py").write_text("raise ImportError('shadowed')")
    (tmp_path / "score.py").write_text(
        "import importlib.util, json, sys\n"
        "json.dump({'shadowed': importlib.util.find_spec('mace') is not None}, open(sys.argv[-1], 'w'))\n"
    )
    model = tmp_path / "mace.model"
    model.touch()
    assert Mace(tmp_path, 1).score(model, {}, None) == {"shadowed": False}


def test_each_suite_has_its_programs_and_hands_them_what_they_take(repository: Path) -> None:
    options = argparse.Namespace(
        data=Path("d"),
        out=Path("o"),
        peers=Path("p"),
        cores=2,
        no_peers=True,
        learning=["--minutes", "10"],
        train=[10_000],
    )
    assert set(SUITES) == {"molecules", "potentials", "fluids", "weather", "kinetics"}
    for name in NAMES:
        source = (repository / "benchmarks" / f"{name}.py").read_text()
        line = command(name, options)
        assert line[1:3] == ["-m", f"benchmarks.{name}"]
        assert ("--no-peers" in line) == ('"--no-peers"' in source)
        assert (line[-2:] == ["--minutes", "10"]) == (name == "potential_learning")
