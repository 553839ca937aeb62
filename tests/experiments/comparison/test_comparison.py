"""The fair comparison: contenders of known error and cost under a clock that the test turns."""

from __future__ import annotations

import io
import json
import math
import re
import time
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

from data.errors import InputError
from data.files import write_json
from experiments.comparison import break_even as fr
from experiments.comparison.comparison_page import render, write_page
from experiments.comparison.contenders import Clock, Contender, Point, Problem, Settings
from experiments.comparison.cost_figure import frontier_drawing
from experiments.comparison.ladder import Resolution, refuse_weak_reference, self_check
from experiments.comparison.measure import measure
from experiments.comparison.resolution import grid_error
from experiments.comparison.result import Comparison, compare, read, show


class Hand:
    """A clock that stands still until a contender turns it."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def spend(self, wall: float, cores: float = 1.0) -> None:
        self.wall += wall
        self.cpu += wall * cores

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.cpu)


def problem(requests: int = 6, **more) -> Problem:
    random = np.random.default_rng(0)
    initial = random.normal(size=(requests, 1, 4))
    return Problem(initial, np.stack([initial, 2 * initial], axis=1), {"nu": np.arange(float(requests))}, **more)


def exact(initial: np.ndarray) -> np.ndarray:
    return np.stack([initial, 2 * initial], axis=1)


def contender(hand: Hand, name: str, kind: str, *, error: float, fixed: float, each: float, **more) -> Contender:
    """Relative L2 `error`, and a cost of `fixed` a batch and `each` a trajectory."""

    def run(initial, parameters):
        assert len(parameters["nu"]) == len(initial)
        hand.spend(fixed + each * len(initial))
        return exact(initial) * (1 + error)

    return Contender(name, kind, run, **more)


def rung(error: float, cost: float, name: str = "") -> Point:
    return Point(name or f"{cost:g}", "solver", error, cost)


def surrogate(error: float, cost: float, **more) -> Point:
    return Point("net", "surrogate", error, cost, **more)


# Measuring


def test_error_cost_and_batch_are_those_that_were_put_in():
    hand = Hand()
    contenders = [
        contender(hand, "a", "solver", error=0.1, fixed=1.0, each=0.5),
        contender(hand, "b", "surrogate", error=0.02, fixed=0.0, each=0.25, label_core_seconds=7.0),
    ]
    a, b = measure(contenders, problem(), Settings(cores=2, batch_sizes=(1, 2, 4)), hand.clock)
    # Of two cores one was busy: the other may serve somebody else.
    assert a.core_seconds_by_batch == pytest.approx({1: 1.5, 2: 1.0, 4: 0.75})
    assert (a.batch, a.core_seconds, a.core_seconds_median) == (4, pytest.approx(0.75), pytest.approx(0.75))
    assert a.latency_seconds == pytest.approx(1.5)
    assert a.error == pytest.approx(0.1)
    assert a.error_standard_error == pytest.approx(0.0, abs=1e-12)
    assert (b.core_seconds, b.up_front, b.error) == (pytest.approx(0.25), 7.0, pytest.approx(0.02))


def test_compilation_is_stated_and_not_counted():
    hand, seen = Hand(), set()

    def run(initial, parameters):
        hand.spend(0.1 if len(initial) in seen else 50.0)
        seen.add(len(initial))
        return exact(initial)

    (point,) = measure([Contender("a", "solver", run)], problem(), Settings(1, (2,)), hand.clock)
    assert point.core_seconds == pytest.approx(0.05)
    assert point.latency_seconds == pytest.approx(0.1)
    assert point.first_call_seconds == pytest.approx(50.0)


def test_the_cost_is_the_least_of_rounds_and_the_rounds_of_all_are_interleaved():
    hand, order = Hand(), []
    costs = iter([9.0] * 3 + [1.0, 1.0, 5.0, 1.0, 2.0, 1.0, 3.0, 1.0, 4.0, 1.0])

    def run(initial, parameters):
        order.append("a")
        hand.spend(next(costs, 0.0))
        return exact(initial)

    def other(initial, parameters):
        order.append("b")
        hand.spend(1.0)
        return exact(initial)

    first, second = measure(
        [Contender("a", "solver", run), Contender("b", "solver", other)],
        problem(),
        Settings(1, (1,), trials=2, repeats=5),
        hand.clock,
    )
    # 1, 5, 2, 3, 4 are the batches, the calls between them single requests.
    assert (first.core_seconds, first.core_seconds_median) == (pytest.approx(1.0), pytest.approx(3.0))
    assert (first.unsettled, second.unsettled) == (True, False)
    assert "".join(order[6:26]) == "aabb" * 5


def test_short_calls_are_timed_until_there_is_enough_to_go_by():
    hand, calls = Hand(), []

    def run(initial, parameters):
        calls.append(len(initial))
        hand.spend(0.01)
        return exact(initial)

    measure([Contender("a", "solver", run)], problem(), Settings(1, (2,), repeats=3, least_seconds=0.395), hand.clock)
    # The first call, 3 trials, 40 rounds, and three batches for the error.
    assert calls.count(2) == 1 + 3 + 40 + 3


def test_no_request_is_repeated_in_the_next_call():
    seen = []

    def run(initial, parameters):
        seen.append(tuple(parameters["nu"]))
        return exact(initial)

    measure([Contender("a", "solver", run)], problem(6), Settings(1, (6,), repeats=3), Hand().clock)
    batches = [nu for nu in seen if len(nu) == 6]
    assert all(x != y for x, y in pairwise(batches[:7]))
    assert all(sorted(nu) == [0, 1, 2, 3, 4, 5] for nu in batches)


def test_work_that_is_only_dispatched_is_waited_for():
    @jax.jit
    def answer(initial, matrix):
        grown = jax.lax.fori_loop(0, 8, lambda _, m: jax.numpy.tanh(m @ m) * 1e-2, matrix)
        return jax.numpy.stack([initial, 2 * initial], axis=1) + 0 * grown[0, 0]

    matrix = jax.numpy.ones((400, 400))

    def run(initial, parameters):
        # Returns within a few hundred microseconds, long before the products are done.
        return answer(initial, matrix)

    (point,) = measure([Contender("a", "solver", run)], problem(), Settings(1, (1,), repeats=5))
    waited = []
    for _ in range(5):
        begin = time.perf_counter()
        run(problem().initial[:1], {}).block_until_ready()
        waited.append(time.perf_counter() - begin)
    assert point.latency_seconds > 0.2 * min(waited)


def test_an_answer_that_may_not_be_done_is_refused():
    class Later:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            return problem().truth

    with pytest.raises(InputError, match="Later, whose computation may not be finished"):
        measure([Contender("a", "solver", lambda i, p: Later())], problem(), Settings(1, (1,)), Hand().clock)


def test_answers_on_another_grid_and_cores_that_are_not_stated_are_refused():
    with pytest.raises(InputError, match=r"a: answers have shape \(1, 1, 4\), not \(1, 2, 1, 4\)"):
        measure([Contender("a", "solver", lambda i, p: i)], problem(), Settings(1, (1,)), Hand().clock)
    hand = Hand()

    def busy(initial, parameters):
        hand.spend(1.0, cores=2.0)
        return exact(initial)

    with pytest.raises(InputError, match=r"used 2\.0 cores where 1 are stated"):
        measure([Contender("a", "solver", busy)], problem(), Settings(1, (1,)), hand.clock)
    assert measure([Contender("a", "solver", busy)], problem(), Settings(2, (1,)), hand.clock)[0].core_seconds == 2.0


def test_an_answer_that_is_not_finite_has_an_infinite_error_and_ranks_nothing():
    def run(initial, parameters):
        answers = exact(initial)
        answers[parameters["nu"] == 2, 0, 0, 1] = np.nan
        return answers

    ranked = problem(scalar=lambda fields: fields[:, -1].max(axis=(1, 2)), scalar_name="peak")
    (point,) = measure([Contender("a", "solver", run)], ranked, Settings(1, (4,)), Hand().clock)
    assert (point.error, point.error_standard_error, point.non_finite) == (math.inf, None, 1)
    good, bad = measure(
        [
            Contender("good", "solver", lambda i, p: exact(i) * 1.3),
            Contender("reversed", "solver", lambda i, p: exact(i) * 0 - exact(i).max(axis=(1, 2, 3), keepdims=True)),
        ],
        ranked,
        Settings(1, (4,)),
        Hand().clock,
    )
    assert (good.spearman, good.kendall) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (bad.spearman, bad.kendall) == (pytest.approx(-1.0), pytest.approx(-1.0))


def test_bad_contenders_and_problems_are_named():
    with pytest.raises(InputError, match='Give one without "/"'):
        Contender("a/b", "solver", lambda i, p: i)
    with pytest.raises(InputError, match="no kind 'oracle'"):
        Contender("a", "oracle", lambda i, p: i)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="5 of nu for 6 initial states"):
        Problem(np.ones((6, 1, 4)), np.ones((6, 2, 1, 4)), {"nu": np.ones(5)})
    twice = [Contender("a", "solver", lambda i, p: i)] * 2
    with pytest.raises(InputError, match="two are called 'a'"):
        measure(twice, problem(), Settings(1, (1,)), Hand().clock)


# The reference


def test_the_self_check_of_a_second_order_method_tells_its_error():
    truth = np.random.default_rng(1).normal(size=(3, 2, 1, 8))
    shape = np.random.default_rng(2).normal(size=truth.shape)

    def solved(h: float) -> np.ndarray:
        return truth + h**2 * shape

    error = np.mean(
        np.linalg.norm((solved(0.1) - truth).reshape(3, -1), axis=1) / np.linalg.norm(truth.reshape(3, -1), axis=1)
    )
    # Of order p = 2 the difference to half the step is 1 - 2^-2 of the error, up to the norm in the denominator.
    assert self_check(solved(0.1), solved(0.05)) == pytest.approx(0.75 * error, rel=0.02)


def test_a_reference_that_cannot_judge_is_refused():
    points = [rung(0.1, 1.0), rung(math.inf, 2.0), surrogate(0.03, 0.1)]
    refuse_weak_reference(0.01, points)
    with pytest.raises(InputError, match=r"differs from its own refinement by 1\.01e-02.*3\.00e-02 of 'net'.*3 times"):
        refuse_weak_reference(0.0101, points)
    with pytest.raises(InputError, match="Refine the reference"):
        refuse_weak_reference(math.nan, points)
    with pytest.raises(InputError, match="cannot judge"):
        Comparison("p", tuple(points), "r", 0.02, 5, 1)
    same = np.ones((1, 1, 1, 4))
    with pytest.raises(InputError, match="equal to the reference"):
        self_check(same, same)
    with pytest.raises(InputError, match="not finite"):
        self_check(same * np.nan, same)


def test_a_resolution_names_its_grid_and_step():
    assert [Resolution(*r).name for r in [(32, 0.1), (64, 0.05), (128, 1.0, 1)]] == [
        "32² dt 0.1",
        "64² dt 0.05",
        "128 dt 1",
    ]


# The frontier


costs = st.floats(1e-6, 1e6)
rungs = st.lists(st.tuples(costs, costs), min_size=1, max_size=12).map(
    lambda pairs: [rung(e, c, str(i)) for i, (e, c) in enumerate(pairs)]
)


@given(rungs)
def test_the_frontier_is_monotone_and_nothing_beats_it(points):
    best = fr.frontier(points)
    assert all(a.core_seconds < b.core_seconds and a.error > b.error for a, b in pairwise(best))
    for p in points:
        assert any(b.error <= p.error and b.core_seconds <= p.core_seconds for b in best)


@given(rungs, costs)
@settings(max_examples=200, deadline=None)
def test_nothing_is_extrapolated(points, x):
    best = fr.frontier(points)
    known_costs, known_errors = [p.core_seconds for p in best], [p.error for p in best]
    for reading, position, lookup in (
        (fr.cost_at_error(points, x), known_costs, known_errors),
        (fr.error_at_cost(points, x), known_errors, known_costs),
    ):
        assert min(position) <= reading.low <= reading.value <= reading.high <= max(position)
        inside = min(lookup) <= x <= max(lookup)
        assert (reading.relation == "equal") == inside
        if not inside:
            assert reading.value in position
            assert len(reading.between) == 1


@given(st.floats(0.3, 4), st.floats(0.01, 10), st.floats(0, 1))
def test_a_power_law_is_read_exactly(order, scale, share):
    points = [rung(scale * c**-order, c) for c in (0.5, 2.0, 3.0, 40.0)]
    cost = 0.5 * 80.0**share
    assert fr.error_at_cost(points, cost).value == pytest.approx(scale * cost**-order, rel=1e-9)
    assert fr.cost_at_error(points, scale * cost**-order).value == pytest.approx(cost, rel=1e-9)


@given(rungs, costs, costs)
def test_a_larger_cost_of_error_never_costs_less(points, a, b):
    low, high = sorted((a, b))
    assert fr.cost_at_error(points, low).value >= fr.cost_at_error(points, high).value
    assert fr.error_at_cost(points, low).value >= fr.error_at_cost(points, high).value


def test_beaten_rungs_and_those_that_blew_up_do_not_help_the_surrogate():
    points = [rung(0.1, 1.0), rung(0.01, 10.0), rung(0.09, 500.0), rung(math.inf, 0.1)]
    # Half way in logarithms.
    reading = fr.cost_at_error(points, math.sqrt(0.1 * 0.01))
    assert reading.value == pytest.approx(math.sqrt(10))
    assert (reading.low, reading.high) == (1.0, 10.0)
    with pytest.raises(InputError, match="no rung of the solver has a finite error"):
        fr.frontier([rung(math.inf, 1.0), surrogate(0.1, 1.0)])


def test_bounds_say_which_way():
    points = [rung(0.1, 1.0, "coarse"), rung(0.01, 10.0, "fine")]
    better = fr.speed_up(surrogate(0.001, 0.5), points)
    assert (better.value, better.relation, better.between) == (20.0, "at least", ("fine",))
    worse = fr.speed_up(surrogate(0.5, 0.5), points)
    assert (worse.value, worse.relation, worse.between) == (2.0, "at most", ("coarse",))
    gain = fr.accuracy_gain(surrogate(0.001, 0.5), points)
    assert (gain.value, gain.relation) == (pytest.approx(100.0), "at least")
    gain = fr.accuracy_gain(surrogate(0.5, 20.0), points)
    assert (gain.value, gain.relation) == (pytest.approx(0.02), "at most")
    with pytest.raises(InputError, match="has no error"):
        fr.speed_up(surrogate(math.inf, 1.0), points)


@given(st.floats(0, 1e6), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_at_break_even_both_have_cost_the_same(up_front, solver, net):
    assume(abs(solver - net) > 1e-6 * solver)
    count = fr.break_even(up_front, solver, net)
    if solver > net:
        assert count * solver == pytest.approx(up_front + count * net, rel=1e-6, abs=1e-9)
    else:
        assert count == math.inf


def test_break_even_turns_bounds_round_and_says_never():
    points = [rung(0.1, 1.0), rung(0.01, 10.0)]
    paying = fr.break_even_of(surrogate(0.01, 2.0, label_core_seconds=50.0, training_core_seconds=30.0), points)
    assert paying == fr.BreakEven(10.0, "equal")
    assert fr.break_even_of(surrogate(0.01, 12.0, label_core_seconds=1.0), points).words == "never pays"
    # More accurate than all rungs: the solver costs 10 or more, so that it pays after 10 or sooner.
    assert fr.break_even_of(surrogate(0.001, 2.0, label_core_seconds=80.0), points) == fr.BreakEven(10.0, "at most")
    assert fr.break_even_of(surrogate(0.001, 12.0, label_core_seconds=80.0), points) is None
    late = fr.break_even_of(surrogate(0.5, 0.5, label_core_seconds=700.4), points)
    assert late.words == "at least 1,400, if at all"
    assert fr.break_even_of(surrogate(0.5, 1.5, label_core_seconds=80.0), points).words == "never pays"


# What is kept and shown


@pytest.fixture
def comparison() -> Comparison:
    hand = Hand()
    ladder_of = [(16, 0.1, 1.0), (32, 0.02, 3.0), (64, 0.004, 9.0), (48, 0.05, 8.0)]
    contenders = [contender(hand, f"{n}², dt 0.1", "solver", error=e, fixed=0.0, each=c) for n, e, c in ladder_of] + [
        contender(hand, "FNO <8>", "surrogate", error=0.02, fixed=0.0, each=7.5, label_core_seconds=90.0),
        contender(hand, "U-Net", "surrogate", error=0.004, fixed=0.0, each=1.0, training_core_seconds=80.0),
        contender(hand, "broken", "surrogate", error=math.nan, fixed=0.0, each=1.0),
    ]
    return compare(
        "Burgers & friends",
        contenders,
        problem(scalar=lambda fields: fields.max(axis=(1, 2, 3)), scalar_name="peak velocity"),
        reference="a fine grid",
        reference_difference=1e-4,
        settings=Settings(1, (1, 3), trials=1, repeats=2),
        clock=hand.clock,
    )


def test_json_holds_the_findings_flat_and_gives_the_comparison_back(comparison, tmp_path):
    path = comparison.write(tmp_path)
    flat = json.loads(path.read_text())
    assert all(isinstance(v, str | int | float | None) for v in flat.values())
    assert flat["surrogate/FNO <8>/speed_up_at_equal_error"] == pytest.approx(0.4)
    assert flat["surrogate/FNO <8>/speed_up_at_equal_error_relation"] == "equal"
    assert flat["surrogate/FNO <8>/break_even_trajectories"] is None
    assert flat["surrogate/FNO <8>/break_even_relation"] == "never pays"
    assert flat["surrogate/U-Net/speed_up_at_equal_error"] == pytest.approx(9.0)
    assert flat["surrogate/U-Net/break_even_trajectories"] == pytest.approx(10.0)
    assert flat["surrogate/broken/relative_l2"] is None
    assert flat["surrogate/broken/non_finite_values"] == 6 * 2 * 4
    assert flat["solver/48², dt 0.1/on_frontier"] is False
    assert flat["solver/64², dt 0.1/core_seconds_per_trajectory_batch_3"] == pytest.approx(9.0)
    assert read(tmp_path) == comparison
    write_json(path, {k: v for k, v in flat.items() if k != "cores"})
    with pytest.raises(InputError, match="cores is missing"):
        read(tmp_path)


def test_the_table_says_all_that_matters(comparison):
    console = Console(file=io.StringIO(), width=110)
    show(comparison, console)
    text = console.file.getvalue()
    line = next(line for line in text.splitlines() if "FNO <8>" in line)
    assert "×0.40" in line
    assert "never pays" in line
    assert "∞" in next(line for line in text.splitlines() if "broken" in line)


def test_the_page_says_that_the_solver_is_faster_where_it_is(comparison, tmp_path):
    slow = replace(comparison, points=tuple(p for p in comparison.points if p.name != "U-Net"))
    text = write_page([slow], tmp_path / "page.html").read_text()
    assert "the solver is faster at equal error: ×0.40" in text
    assert "it never pays" in text
    assert "FNO &lt;8&gt;" in text
    assert "FNO <8>" not in text
    assert "Burgers &amp; friends" in text
    assert "48 values that are not finite" in text
    assert not re.search(r"(src|href)=\"(?!#)", text)
    quick = render([comparison])
    assert (
        "With U-Net, the best of 3 surrogates, <strong>the surrogate is faster at equal error: ×9.0</strong>" in quick
    )
    assert "pays from 10 trajectories on" in quick
    both = render([comparison, slow])
    ids = re.findall(r'\sid="([^"]+)"', both)
    assert len(ids) == len(set(ids))


def test_disturbed_timings_are_said_to_be_so(comparison):
    busy = tuple(
        replace(p, core_seconds_median=3 * p.core_seconds) if p.name == "U-Net" else p for p in comparison.points
    )
    assert comparison.unsettled == ""
    assert "The machine was busy" not in render([comparison])
    assert "The machine was busy while U-Net ran" in render([replace(comparison, points=busy)])


def test_an_upper_bound_is_no_merit(comparison):
    bad = surrogate(0.5, 1e-3)
    text = render([replace(comparison, points=(*comparison.points, bad))])
    assert "With U-Net, the best of 4 surrogates" in text
    alone = render([replace(comparison, points=(*comparison.rungs, bad))])
    assert "which is faster at equal error is not known: at most ×1,000" in alone


def test_labels_of_the_figure_cover_neither_each_other_nor_a_point(comparison):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

    from experiments.comparison.cost_figure import paint

    points = tuple(rung(0.1 * 0.6**i, 1.0 * 1.4**i, f"{16 + 8 * i}², dt {0.1 / (i + 1):.3g}") for i in range(8))
    crowded = replace(comparison, points=(*points, *(surrogate(0.02, 0.3) for _ in range(1))))
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    paint(axes, crowded)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [t for t in axes.texts if isinstance(t, Annotation)]
    assert {t.get_text() for t in texts} >= {p.name for p in crowded.points}
    boxes = [t.get_window_extent(renderer) for t in texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert axes.get_window_extent(renderer).contains(box.x0, box.y0)
        assert axes.get_window_extent(renderer).contains(box.x1, box.y1)
        for p in crowded.points:
            assert not box.contains(*axes.transData.transform((p.core_seconds, p.error)))
    assert "×" in frontier_drawing(crowded).xml


# Other grids


def test_errors_on_other_grids_are_those_that_were_put_in_and_survive_the_file(comparison, tmp_path):
    truth = np.random.default_rng(0).normal(size=(4, 3, 1, 8))

    def mute(initial):
        raise ValueError("positions are bound to the grid")

    def blown(initial):
        return np.full_like(truth, np.nan)

    def off(share):
        return lambda initial: truth * (1 + share)

    tried = (
        grid_error(8, truth, truth[:, 0], off(0.2), off(0.05), trained=True),
        grid_error(16, truth, truth[:, 0], off(0.3), blown, trained=False),
        grid_error(32, truth, truth[:, 0], mute, off(0.01), trained=False),
    )
    assert [e.surrogate for e in tried] == [pytest.approx(0.2), pytest.approx(0.3), None]
    assert [e.solver for e in tried] == [pytest.approx(0.05), math.inf, pytest.approx(0.01)]
    whole = replace(comparison, resolution=tried)
    whole.write(tmp_path)
    assert read(tmp_path) == whole
    text = render([whole])
    assert "errs there by 0.2" in text
    assert "1.5 times that on 16" in text
    assert "It has no finite answer on 32." in text
    assert "On other grids" not in render([comparison])
    assert "only on the grid of its training" in render([replace(whole, resolution=(tried[0], tried[2]))])
