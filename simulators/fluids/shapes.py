"""Smooth bodies in a channel with a few shape parameters, and random requests for such bodies.

A body is an ellipse whose outline is deformed by waves. At the eccentric angle t,

    (x, y) = centre + s (1 + w(t)) Q(angle) (a cos t, b sin t),   w(t) = sum over k of c_k cos kt + s_k sin kt

with a / b the aspect and ab = radius^2. Every such outline encloses pi radius^2 (1 + sum (c_k^2 + s_k^2) / 2) s^2, so
the factor s that keeps the area at pi radius^2 has a closed form. The polar angle grows with t, so that an outline
cannot cross itself while 1 + w is positive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import xarray as xr
from jaxtyping import Float64

from data.errors import InputError
from data.spec import Spec

#: Smallest valid 1 + w. Smaller values make deep notches, and at 0 the outline touches itself.
MIN_WAVE = 0.3
#: Smallest radius of curvature relative to the body's radius; sharper corners cannot be resolved.
MIN_CURVATURE_RADIUS = 0.02
#: Number of points along the outline at which it is checked.
CHECKED = 720
#: Number of shapes that are drawn for one request before the ranges count as impossible.
TRIES = 1000


@dataclass(frozen=True)
class Channel:
    """A plane channel with a parabolic inflow at x = 0, walls at y = 0 and y = height, and an open end.

    The defaults are the benchmark DFG 2D-1 (Schäfer, Turek, Notes on Numerical Fluid Mechanics 52, 1996, 547).

    Attributes:
        length, height: size of the channel, m.
        peak: velocity on the centre line of the inflow, m/s.
        clearance: smallest distance of a body from each end and wall, m.
    """

    length: float = 2.2
    height: float = 0.41
    peak: float = 0.3
    clearance: float = 0.02

    def __post_init__(self) -> None:
        for name in ("length", "height", "peak", "clearance"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise InputError(f"{name} must be above 0, got {value}", where=f"channel.{name}")

    @property
    def mean(self) -> float:
        """Mean velocity of the inflow, m/s."""
        return 2 / 3 * self.peak


@dataclass(frozen=True)
class Body:
    """A body, by the formula of the module. The default is the cylinder of DFG 2D-1.

    Attributes:
        radius: radius of the circle of equal area, m.
        aspect: aspect ratio a / b of the ellipse.
        angle: anticlockwise rotation, rad.
        x, y: centre, m.
        modes: wavenumbers k. Modes 1 and 2 are best left out: they shift and stretch a circle, as other parameters do.
        cosine, sine: amplitudes c_k and s_k; empty: all 0.
    """

    radius: float = 0.05
    aspect: float = 1.0
    angle: float = 0.0
    x: float = 0.2
    y: float = 0.2
    modes: tuple[int, ...] = (3, 4, 5)
    cosine: tuple[float, ...] = ()
    sine: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "modes", tuple(int(k) for k in self.modes))
        if len(set(self.modes)) < len(self.modes) or any(k < 1 for k in self.modes):
            raise InputError(f"modes must differ and be 1 or more, got {self.modes}", where="body.modes")
        for name in ("cosine", "sine"):
            values = tuple(float(v) for v in getattr(self, name)) or (0.0,) * len(self.modes)
            if len(values) != len(self.modes):
                raise InputError(f"{len(values)} amplitudes for {len(self.modes)} modes", where=f"body.{name}")
            object.__setattr__(self, name, values)
        for name in ("radius", "aspect", "angle", "x", "y", "cosine", "sine"):
            if not np.isfinite(value := getattr(self, name)).all():
                raise InputError(f"must be finite, got {value}", where=f"body.{name}")
        for name in ("radius", "aspect"):
            if getattr(self, name) <= 0:
                raise InputError(f"must be above 0, got {getattr(self, name)}", where=f"body.{name}")

    @property
    def area(self) -> float:
        """Area, m2."""
        return math.pi * self.radius**2

    def reflected(self, height: float) -> Body:
        """The mirror image about the centre line of a channel of this height."""
        return replace(self, angle=-self.angle, y=height - self.y, sine=tuple(-s for s in self.sine))

    def facing(self, direction: float) -> float:
        """The t at which a point of the outline lies in this direction from the centre, both in rad."""
        turned, root = direction - self.angle, math.sqrt(self.aspect)
        return math.atan2(root * math.sin(turned), math.cos(turned) / root)

    def wave(self, t: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "3 N"]:
        """1 + w(t) with its first and second derivatives."""
        k = np.array(self.modes, float)[:, None]
        c, s = np.array(self.cosine)[:, None], np.array(self.sine)[:, None]
        cos, sin = np.cos(k * t), np.sin(k * t)
        value = 1 + (c * cos + s * sin).sum(0)
        return np.stack([value, (k * (s * cos - c * sin)).sum(0), -(k**2 * (c * cos + s * sin)).sum(0)])

    def outline(self, t: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "3 N 2"]:
        """Points of the outline, anticlockwise, m, with their first and second derivatives by t.

        Args:
            t: eccentric angles, rad.
        """
        amplitudes = np.array(self.cosine + self.sine)
        scale = self.radius / math.sqrt(1 + (amplitudes**2).sum() / 2)
        a, b = scale * math.sqrt(self.aspect), scale / math.sqrt(self.aspect)
        ellipse = np.stack([a * np.cos(t), b * np.sin(t)], -1)
        tangent = np.stack([-a * np.sin(t), b * np.cos(t)], -1)
        w, w1, w2 = self.wave(t)[..., None]
        local = np.stack([w * ellipse, w1 * ellipse + w * tangent, w2 * ellipse + 2 * w1 * tangent - w * ellipse])
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        points: Float64[np.ndarray, "3 N 2"] = local @ np.array([[cos, sin], [-sin, cos]])
        points[0] += (self.x, self.y)
        return points

    def check(self, channel: Channel) -> None:
        """Refuse a body that nearly folds onto itself, has too sharp a corner, or is too close to the channel's sides.

        Raises:
            InputError: names the fault with its value and limit.
        """
        t = np.linspace(0, 2 * np.pi, CHECKED, endpoint=False)
        if (least := float(self.wave(t)[0].min())) < MIN_WAVE:
            raise InputError(
                f"its waves leave {least:.3g} of the radius, at least {MIN_WAVE} is needed",
                where="body.cosine, body.sine",
                remedy="Give smaller amplitudes",
            )
        points, first, second = self.outline(t)
        bend = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        sharp = float(1 / np.abs(bend / (first**2).sum(-1) ** 1.5).max())
        if sharp < MIN_CURVATURE_RADIUS * self.radius:
            least = MIN_CURVATURE_RADIUS * self.radius
            raise InputError(
                f"a corner has a radius of {sharp:.3g} m, at least {least:.3g} m is needed",
                where="body",
                remedy="Give an aspect nearer to 1 or smaller amplitudes",
            )
        (left, low), (right, high) = points.min(0), points.max(0)
        gaps = {
            "inflow": left,
            "outflow": channel.length - right,
            "lower wall": low,
            "upper wall": channel.height - high,
        }
        for name, gap in gaps.items():
            if gap < channel.clearance:
                raise InputError(
                    f"it lies {gap:.3g} m from the {name}, at least {channel.clearance:.3g} m is needed",
                    where="body",
                    remedy="Move it, or make it smaller",
                )


@dataclass(frozen=True)
class ShapeRanges:
    """Ranges of the parameters of bodies; distributions are uniform unless stated otherwise.

    Attributes:
        aspect: range of the aspect ratio, log-uniform; values below 1 are equivalent to a rotation.
        angle: range of the rotation, rad.
        x, y: range of the centre, m.
        wave: largest amplitude of the first mode; that of mode k is wave x (first / k)^decay.
        decay: decay exponent of the amplitudes; smooth outlines need 1 or more.
        reynolds: range of the Reynolds number, log-uniform.
    """

    aspect: tuple[float, float] = (1.0, 2.5)
    angle: tuple[float, float] = (-math.pi / 2, math.pi / 2)
    x: tuple[float, float] = (0.2, 0.2)
    y: tuple[float, float] = (0.2, 0.2)
    wave: float = 0.12
    decay: float = 1.5
    reynolds: tuple[float, float] = (10.0, 40.0)

    def __post_init__(self) -> None:
        for name in ("aspect", "angle", "x", "y", "reynolds"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (float(low), float(high)))
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise InputError(f"a range needs finite low <= high, got [{low}, {high}]", where=f"ranges.{name}")
            if name in ("aspect", "reynolds") and low <= 0:
                raise InputError(f"a logarithmic range needs low above 0, got {low}", where=f"ranges.{name}")
        if not (math.isfinite(self.wave) and self.wave >= 0 and math.isfinite(self.decay)):
            raise InputError(f"wave must be 0 or more, got {self.wave}", where="ranges.wave")

    def sample(self, name: str, modes: tuple[int, ...], rng: np.random.Generator) -> Any:
        """Draw one value of an input: a number, or an amplitude for each mode."""
        if name in ("cosine", "sine"):
            size = self.wave * (min(modes, default=1) / np.array(modes, float)) ** self.decay
            return rng.uniform(-size, size)
        low, high = getattr(self, name)
        if name in ("aspect", "reynolds"):
            return float(np.exp(rng.uniform(math.log(low), math.log(high))))
        return float(rng.uniform(low, high))


class Flow(Protocol):
    """A simulator of the flow around bodies."""

    @property
    def spec(self) -> Spec: ...
    @property
    def body(self) -> Body: ...
    @property
    def channel(self) -> Channel: ...


def draw_bodies(flow: Flow, ranges: ShapeRanges, count: int, seed: int, *, start: int = 0) -> Iterator[xr.Dataset]:
    """Requests `start` to `count` - 1 of the infinite series that `seed` determines; each depends on its index only.

    Shapes that `Body.check` refuses are drawn again.

    Args:
        flow: simulator that answers the requests; parameters that it does not vary keep the values of its body.
        ranges: ranges of the parameters.
        count: index after the last request.
        seed: seed of the series, 0 or more.
        start: index of the first request.

    Raises:
        InputError: no shape within the ranges fits the channel.
    """
    names = [v.name for v in flow.spec.inputs]
    for index in range(start, count):
        for attempt in range(TRIES):
            # Each parameter has its own random stream, so that varying one more does not change the others.
            drawn = {
                name: ranges.sample(
                    name, flow.body.modes, np.random.default_rng([seed, index, attempt, *name.encode()])
                )
                for name in names
            }
            try:
                with_parameters(flow.body, drawn).check(flow.channel)
            except InputError as error:
                problem = error
                continue
            yield flow.spec.request(drawn)
            break
        else:
            raise InputError(f"none of {TRIES} shapes fits; the last: {problem}", where="ranges", remedy="Narrow them")


def with_parameters(body: Body, values: Mapping[str, Any]) -> Body:
    """Replace some parameters of a body; values that are not parameters of a body are ignored."""
    changes: dict[str, Any] = {k: float(values[k]) for k in ("aspect", "angle", "x", "y") if k in values}
    changes |= {k: tuple(values[k]) for k in ("cosine", "sine") if k in values}
    return replace(body, **changes)
