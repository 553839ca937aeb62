"""`understudy predict` on fields: every sample has its answer or a status, in whatever format it comes and goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from predicting import predicted_by
from saved_files import unpack

from data.errors import InputError
from experiments.prediction import samples
from surrogates.saved import load_surrogate

RNG = np.random.default_rng(0)
INITIAL, SPEED = RNG.normal(size=(5, 1, 8)), RNG.uniform(0.02, 0.2, 5)
TRUE = RNG.normal(size=(5, 3, 1, 8))
DIMS = "dims={initial: [sample,channel,x], speed: [sample], u: [sample,time,channel,x]}"


@pytest.fixture(scope="module")
def saved(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The directory of the saved surrogate of fields."""
    return once("saved-fields", lambda place: unpack("surrogates/fields", place))


def expected(saved: Path, sample: int) -> np.ndarray:
    surrogate: Any = load_surrogate(saved)
    initial = INITIAL[sample : sample + 1].swapaxes(1, 2)
    answer = surrogate.predict_arrays(initial, np.zeros((1, 8, 0)), SPEED[[sample], None])
    return np.moveaxis(answer.mean[0], -1, 1)


def test_answers_are_those_of_the_surrogate_in_every_format(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two samples a chunk, so that the last one is shorter.
    monkeypatch.setattr(samples, "CHUNK_SAMPLES", 2)
    initial = INITIAL.copy()
    initial[3, 0, 2] = np.nan
    np.savez(tmp_path / "in.npz", initial=initial, speed=SPEED, u=TRUE)
    with import_module("h5py").File(tmp_path / "in.h5", "w") as file:
        file["initial"], file["speed"], file["u"] = initial, SPEED, TRUE
    coords = {"x": np.arange(8) / 8, "time": [0.0, 1.0, 2.0]}
    named = xr.Dataset(
        {
            "initial": (("sample", "channel", "x"), initial, {"units": "m"}),
            "speed": ("sample", SPEED, {"units": "m s-1"}),
            "u": (("sample", "time", "channel", "x"), TRUE, {"units": "m"}),
        },
        coords,
    )
    named.to_netcdf(tmp_path / "in.nc", engine="h5netcdf")
    mean = np.stack([expected(saved, i) for i in (0, 1, 2, 4)])
    for source, target in (("npz", "nc"), ("h5", "zarr"), ("nc", "npz")):
        out = tmp_path / f"out-{source}.{target}"
        arguments = [] if source == "nc" else [DIMS]
        run_dir = predicted_by(saved, tmp_path / f"in.{source}", out, *arguments)
        if target == "npz":
            with np.load(out) as file:
                arrays = {k: v for k, v in file.items() if len(v) == 5}
            answer = xr.Dataset({k: (("sample", "b", "c", "d")[: v.ndim], v) for k, v in arrays.items()})
        else:
            answer = (xr.open_zarr(out) if target == "zarr" else xr.open_dataset(out, engine="h5netcdf")).load()
            assert answer["u"].dims == ("sample", "time", "channel", "x")
            assert answer["u_low"].attrs["units"] == "m"
        assert answer["status"].values.tolist() == [0, 0, 0, 1, 0]
        np.testing.assert_allclose(answer["u"].values[[0, 1, 2, 4]], mean, rtol=1e-5, atol=1e-6)
        assert np.isnan(answer["u"].values[3]).all()
        assert (answer["u_low"].values <= answer["u_high"].values)[[0, 1, 2, 4]].all()
        np.testing.assert_allclose(answer["u_true"].values, TRUE, rtol=1e-6)
        np.testing.assert_allclose(answer["speed"].values, SPEED)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["predict/samples"] == 5
    assert metrics["predict/rejected"] == 1
    error = mean[:, 1:] - TRUE[[0, 1, 2, 4], 1:]
    assert metrics["predict/u/mae_m"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    norms = np.linalg.norm(error.reshape(4, -1), axis=1) / np.linalg.norm(TRUE[[0, 1, 2, 4], 1:].reshape(4, -1), axis=1)
    assert metrics["predict/u/relative_l2"] == pytest.approx(norms.mean(), rel=1e-5)
    assert "Predicted against true u" in (run_dir / "report.html").read_text()


def test_a_run_that_was_stopped_goes_on_and_inputs_of_another_question_are_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "CHUNK_SAMPLES", 2)
    np.savez(tmp_path / "in.npz", initial=INITIAL, speed=SPEED)
    asked: list[int] = []
    truly = samples._answers

    def stopping(surrogate: Any, data: Any, rows: np.ndarray, *rest: Any) -> Any:
        asked.append(int(rows[0]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return truly(surrogate, data, rows, *rest)

    monkeypatch.setattr(samples, "_answers", stopping)
    with pytest.raises(KeyboardInterrupt):
        predicted_by(saved, tmp_path / "in.npz", tmp_path / "out.npy", DIMS)
    assert not (tmp_path / "out.npy").exists()
    predicted_by(saved, tmp_path / "in.npz", tmp_path / "out.npy", DIMS)
    assert asked == [0, 2, 4, 4]
    whole = np.load(tmp_path / "out.npy")
    for i in range(5):
        np.testing.assert_allclose(whole[i], expected(saved, i), rtol=1e-5, atol=1e-6)
    np.savez(tmp_path / "other.npz", start=INITIAL, speed=SPEED)
    with pytest.raises(InputError, match="no variable initial"):
        predicted_by(saved, tmp_path / "other.npz", tmp_path / "o.nc", DIMS)
    with pytest.raises(InputError, match="cannot tell the kind of file"):
        predicted_by(saved, tmp_path / "in.npz", tmp_path / "o.csv", DIMS)
