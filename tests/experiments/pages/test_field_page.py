"""The page of a training of fields: its numbers are those of closed forms, and it shows what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import small_fields

from data.errors import InputError
from data.fields.samples import Fields
from experiments.pages import field_page
from experiments.pages.field_errors import half_grid, regions, shells, sizes
from surrogates.fields.bands import Bands
from surrogates.fields.surrogate import FieldAnswer


class Oracle:
    """Answers with the truth and a known error: a wave of three periods along x, of a tenth of the height."""

    def __init__(self, fields: Fields, bands: Bands | None, only: tuple[int, ...] | None = None) -> None:
        self.facts = SimpleNamespace(bands=bands)
        self.only = only

    def predict_fields(self, fields: Fields) -> FieldAnswer:
        if self.only is not None and fields.layout.points != self.only:
            raise InputError("another grid")
        x = np.arange(fields.layout.points[0]) / fields.layout.points[0]
        shape = [1, 1, -1, *[1] * (fields.states.ndim - 3)]
        off = 0.1 * np.sin(6 * np.pi * x).reshape(shape) * np.ones_like(fields.states)
        return FieldAnswer(
            fields.states + off, np.zeros_like(off), [["u = 9 outside [0, 1]"], *[[] for _ in fields.states[1:]]]
        )


def bands(fields: Fields) -> Bands:
    times, channels = fields.states.shape[1], fields.states.shape[-1]
    # The half-width is 0.05: the error is smaller at a third of the phases of its wave.
    return Bands((1.0,) * times, ((0.05,) * channels,) * times, (1.0,) * times, 0.1, 20)


def test_the_page_holds_the_errors_that_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_page, "MOST_CHANNELS", 1)
    fields = small_fields.waves(5, 0, 24)
    oracle: Any = Oracle(fields, bands(fields))
    page = field_page.write_field_page(tmp_path, oracle, fields, {"test/relative_l2": 0.25})
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 3 * 2 + 4
    assert "http" not in text.replace("http://www.w3.org", "")
    # Root of the mean square of a sine of a tenth.
    assert "0.0707" in text
    assert "u (m)" in text
    assert "1 of 5 samples lie outside of the training domain: u (1)" in text
    assert "90% were promised" in text
    assert "half as many points" in text


def test_what_a_surrogate_lacks_is_said(tmp_path: Path) -> None:
    fields = small_fields.waves(3, 0)
    only: Any = Oracle(fields, None, fields.layout.points)
    said = "This network answers on the grid that it was trained on alone: another grid"
    assert said in field_page._other_grid(only, fields)
    answer = only.predict_fields(fields)
    assert "No samples were set aside" in field_page._calibration(only, fields.layout, fields, answer, np.ones(3, bool))


def test_power_stands_at_the_waves_that_a_field_has() -> None:
    x = np.arange(32) / 32
    values = (2 * np.sin(2 * np.pi * 5 * x))[None, None, :, None]
    power = shells(values, 1)
    assert len(power) == 16
    # The mean square of the wave, by Parseval's theorem.
    np.testing.assert_allclose(power, np.where(np.arange(1, 17) == 5, 2.0, 0.0), atol=1e-12)
    assert sizes(values)[0, 0] == pytest.approx(np.sqrt(2.0 * 32))


def test_errors_are_told_apart_by_region() -> None:
    truth = np.zeros((2, 1, 20, 1))
    truth[:, 0, 10:, 0] = 1.0
    off = np.zeros_like(truth)
    off[:, :, [0, 1, 18, 19]] = 0.5
    by_name = {name: (share, error) for name, share, error in regions(truth, truth + off, [False])}
    spread = truth.std()
    assert by_name["within 10% of the boundary"] == pytest.approx((0.2, 0.5 / spread))
    assert by_name["further inside"] == pytest.approx((0.8, 0.0))
    assert by_name["where the truth is steepest (10% of the points)"][1] == 0.0
    assert by_name["everywhere"][1] == pytest.approx(0.5 / spread * np.sqrt(0.2))
    assert "further inside" not in {name for name, _, _ in regions(truth, truth, [True])}


def test_a_grid_of_half_as_many_points_holds_the_same_fields() -> None:
    fields = small_fields.waves(3, 0, 16)
    coarse = half_grid(fields)
    assert coarse is not None
    same = small_fields.waves(3, 0, 8)
    assert coarse.layout == same.layout
    np.testing.assert_allclose(coarse.states, same.states, atol=1e-6)
    closed = half_grid(replace(fields, layout=replace(fields.layout, periodic=(False,))))
    assert closed is not None
    assert closed.layout.axis("x").values[0] == pytest.approx(0.5 / 16)
    np.testing.assert_allclose(closed.states[:, :, 0], fields.states[:, :, :2].mean(axis=2), atol=1e-6)
    assert half_grid(small_fields.waves(3, 0, 6)) is None


@pytest.mark.parametrize(
    ("name", "long_name", "channels", "said"),
    [
        ("state", "state", ("height", "speed"), "height and speed"),
        ("state", "state", tuple("abcdef"), "6 fields"),
        ("tensor", "tensor", ("tensor",), "the field “tensor”"),
        ("velocity", "velocity of the air", ("x", "y"), "velocity of the air"),
    ],
)
def test_the_title_says_what_is_learned(name: str, long_name: str, channels: tuple[str, ...], said: str) -> None:
    layout = small_fields.layout()
    axes = tuple(replace(axis, values=channels) if axis.name == "channel" else axis for axis in layout.axes)
    initial = None if layout.initial is None else replace(layout.initial, name="initial")
    output = replace(layout.output, name=name, long_name=long_name)
    assert field_page._learned(replace(layout, output=output, initial=initial, axes=axes)) == said
