"""Bodies: area, derivatives, mirror images and what is refused, against geometry."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from data.errors import InputError
from data.spec import Coordinate, Spec
from simulators.fluids.ngsolve.flow import INPUTS
from simulators.fluids.shapes import Body, Channel, ShapeRanges, draw_bodies, with_parameters

T = np.linspace(0, 2 * np.pi, 400, endpoint=False)
CROOKED = Body(aspect=1.7, angle=0.6, cosine=(0.1, -0.05, 0.03), sine=(-0.06, 0.04, 0.05))


class Flow:
    """Takes the inputs named."""

    body, channel = Body(), Channel()

    def __init__(self, *names: str) -> None:
        modes = Coordinate("mode", (3.0, 4.0, 5.0), "1", "modes")
        self.spec = Spec(tuple(v for v in INPUTS if v.name in names), (), (modes,))


ALL = Flow(*(v.name for v in INPUTS))


def test_the_default_is_a_circle() -> None:
    points = Body().outline(T)[0]
    assert np.allclose(np.hypot(*(points - 0.2).T), 0.05, rtol=1e-14)


@pytest.mark.parametrize("body", [CROOKED, Body(aspect=4.0), replace(CROOKED, modes=(1, 2, 7), radius=0.03)])
def test_the_enclosed_area_is_that_of_the_radius(body: Body) -> None:
    (x, y), (dx, dy) = body.outline(T)[0].T, body.outline(T)[1].T
    # The rule of equal weights is exact for trigonometric polynomials: Green's theorem.
    area = 0.5 * float((x * dy - y * dx).mean()) * 2 * math.pi
    assert area == pytest.approx(math.pi * body.radius**2, rel=1e-12)
    assert area == pytest.approx(body.area, rel=1e-12)


def test_derivatives_of_the_outline_are_finite_differences() -> None:
    h = 1e-5
    (_, first, second), ahead, behind = CROOKED.outline(T), CROOKED.outline(T + h), CROOKED.outline(T - h)
    assert np.allclose(first, (ahead[0] - behind[0]) / (2 * h), atol=1e-9)
    assert np.allclose(second, (ahead[1] - behind[1]) / (2 * h), atol=1e-8)


@pytest.mark.parametrize("direction", [0.0, 1.0, math.pi, -2.0])
def test_a_direction_is_found_on_the_outline(direction: float) -> None:
    x, y = CROOKED.outline(np.array([CROOKED.facing(direction)]))[0, 0]
    assert math.cos(math.atan2(y - CROOKED.y, x - CROOKED.x) - direction) == pytest.approx(1, abs=1e-14)


def test_a_turn_and_a_mirror_move_every_point() -> None:
    turned = replace(CROOKED, angle=CROOKED.angle + math.pi / 2).outline(T)[0] - 0.2
    assert np.allclose(turned, (CROOKED.outline(T)[0] - 0.2)[:, ::-1] * (-1, 1))
    mirrored = CROOKED.reflected(0.41).outline(-T)[0]
    assert np.allclose(mirrored, CROOKED.outline(T)[0] * (1, -1) + (0, 0.41))


def test_sharp_ends_are_refused_at_the_known_curvature_of_an_ellipse() -> None:
    # The radius of curvature at the tip is b^2 / a = radius aspect^-1.5; 0.02 radius is reached at 50^(2/3) = 13.57.
    channel = Channel(length=10, height=10)
    Body(aspect=13.5, x=5, y=5).check(channel)
    with pytest.raises(InputError, match=r"corner has a radius of 0\.000997 m, at least 0\.001 m"):
        Body(aspect=13.6, x=5, y=5).check(channel)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (Body(y=0.065), "0.015 m from the lower wall, at least 0.02 m"),
        (Body(y=0.345), "0.015 m from the upper wall"),
        (Body(x=0.05), "0 m from the inflow|0.0 m from the inflow"),
        (Body(x=2.19), "-0.04 m from the outflow"),
        (Body(aspect=30.0, angle=1.5), "wall|corner"),
        (Body(modes=(3,), cosine=(0.8,)), "leave 0.2 of the radius, at least 0.3"),
    ],
)
def test_bodies_that_do_not_fit_are_named_in_one_line(body: Body, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        body.check(Channel())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Body(radius=0.0), "body.radius: must be above 0"),
        (lambda: Body(aspect=-1.0), "body.aspect: must be above 0"),
        (lambda: Body(angle=math.nan), "body.angle: must be finite"),
        (lambda: Body(cosine=(0.1,)), "body.cosine: 1 amplitudes for 3 modes"),
        (lambda: Body(modes=(3, 3)), "body.modes: modes must differ"),
        (lambda: Channel(height=0.0), "channel.height"),
        (lambda: ShapeRanges(aspect=(2.0, 1.0)), "ranges.aspect: a range needs finite low <= high"),
        (lambda: ShapeRanges(reynolds=(0.0, 1.0)), "ranges.reynolds: a logarithmic range"),
        (lambda: ShapeRanges(wave=-1.0), "ranges.wave"),
    ],
)
def test_settings_that_make_no_sense_are_named(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=said):
        make()


def test_drawn_bodies_are_simple_curves_inside_the_channel() -> None:
    for request in draw_bodies(ALL, ShapeRanges(wave=0.3, decay=1.0, aspect=(1.0, 4.0), y=(0.1, 0.3)), 30, 5):
        body = with_parameters(Body(), {k: v.values for k, v in request.items()})
        points = body.outline(T)[0]
        assert (points.min(0) >= 0.02).all()
        assert (points.max(0) <= (2.18, 0.39)).all()
        assert not _crosses(points)
        angle = np.unwrap(np.arctan2(points[:, 1] - body.y, points[:, 0] - body.x))
        assert (np.diff(angle) > 0).all()


def test_a_curve_that_crosses_itself_would_be_found() -> None:
    folded = Body(modes=(3,), cosine=(1.6,))
    assert _crosses(folded.outline(T)[0])
    with pytest.raises(InputError, match=r"waves leave -0\.6 of the radius"):
        folded.check(Channel())


def test_requests_depend_on_seed_and_number_alone() -> None:
    ranges = ShapeRanges()
    six = list(draw_bodies(ALL, ranges, 6, 3))
    for i, late in enumerate(draw_bodies(ALL, ranges, 6, 3, start=4)):
        assert late.identical(six[4 + i])
    assert len({float(r["aspect"]) for r in six}) == 6
    assert not six[0].equals(next(draw_bodies(ALL, ranges, 1, 4)))
    few = next(draw_bodies(Flow("aspect", "sine"), ranges, 1, 3))
    assert set(few.data_vars) == {"aspect", "sine"}
    assert float(few["aspect"]) == float(six[0]["aspect"])
    assert (few["sine"].values == six[0]["sine"].values).all()


def test_requests_fill_their_ranges() -> None:
    ranges = ShapeRanges(aspect=(1.0, 2.0), wave=0.1, decay=2.0, reynolds=(1.0, 100.0))
    drawn = list(draw_bodies(ALL, ranges, 400, 0))
    logs = np.log10([float(r["reynolds"]) for r in drawn])
    # Uniform in the logarithm: a mean of 1 and a standard deviation of 1 / sqrt(3), within five standard errors.
    assert abs(logs.mean() - 1) < 5 / math.sqrt(3 * 400)
    assert logs.min() >= 0
    assert logs.max() <= 2
    waves = np.abs(np.array([r["cosine"].values for r in drawn])).max(0)
    most = 0.1 * (3 / np.array([3.0, 4.0, 5.0])) ** 2
    assert (waves <= most).all()
    assert (waves > 0.97 * most).all()


def test_ranges_without_a_body_that_fits_end() -> None:
    with pytest.raises(InputError, match=r"ranges: none of 1000 shapes fits; the last: body: it lies .* lower wall"):
        next(draw_bodies(Flow("y"), ShapeRanges(y=(0.0, 0.05)), 1, 0))


def _crosses(points: np.ndarray) -> bool:
    """Whether two sides of a closed polygon that are not neighbours cross."""
    a, b = points, np.roll(points, -1, 0)

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])

    A, B, C, D = a[:, None], b[:, None], a[None], b[None]
    crossed = (side(A, B, C) * side(A, B, D) < 0) & (side(C, D, A) * side(C, D, B) < 0)
    return bool(crossed.any())
