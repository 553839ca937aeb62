"""The training loop: it learns, resumes bit for bit, equals itself on many devices, and never keeps a NaN."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import linear_problem
import numpy as np
import pytest
from flax import nnx

from data.errors import CorruptStoreError, InputError
from data.files import write_json
from data.plain import to_plain
from surrogates.learning import training_time
from surrogates.learning.checkpointed import Progressed, read_progress
from surrogates.learning.checkpoints import drop_others, load_arrays, save_arrays
from surrogates.learning.loop import Batch, FitResult, TrainConfig, fit
from surrogates.learning.tracking import log_scores

SCRIPT = Path(linear_problem.__file__)


def test_it_finds_the_weights_that_made_the_data(tmp_path: Path) -> None:
    result = linear_problem.train(tmp_path, epochs=60, every_s=None)
    weights = dict(zip(("bias", "kernel"), linear_problem.weights(result), strict=True))
    np.testing.assert_allclose(weights["kernel"], linear_problem.TRUTH, atol=0.02)
    np.testing.assert_allclose(weights["bias"], 0.5, atol=0.02)
    assert result.stopped_by == "epochs"


def test_one_compilation_for_each_shape_of_batch(tmp_path: Path) -> None:
    result = linear_problem.train(tmp_path, epochs=4, every_s=None)
    assert result.compilations == {"train": 2, "valid": 2}


def test_a_run_killed_twice_ends_with_the_very_same_bytes(tmp_path: Path) -> None:
    whole = linear_problem.weights(linear_problem.train(tmp_path / "whole"))
    broken = tmp_path / "broken"
    kills = 0
    for _ in range(2):
        before = len(list((broken / "checkpoints").glob("0*"))) and max((broken / "checkpoints").glob("0*")).name
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(broken), "8", "0.02"],
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 1200
        while process.poll() is None and time.monotonic() < deadline:
            checkpoints = sorted((broken / "checkpoints").glob("0*"))
            if checkpoints and checkpoints[-1].name != before:
                break
            time.sleep(0.01)
        time.sleep(0.1)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 2
    resumed = linear_problem.train(broken)
    for a, b in zip(whole, linear_problem.weights(resumed), strict=True):
        assert a.tobytes() == b.tobytes()
    rows = [json.loads(line) for line in (broken / "train.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 9))


class Stopped(linear_problem.Source):
    """Ctrl-C comes while the sixth batch of the third epoch is made."""

    def epoch(self, index: int) -> Iterator[Batch]:
        for i, batch in enumerate(super().epoch(index)):
            if (index, i) == (2, 5):
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


def test_a_run_stopped_by_ctrl_c_amid_an_epoch_goes_on_from_that_very_step(tmp_path: Path) -> None:
    # A shell that starts the tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config = TrainConfig(epochs=5, learning_rate=0.05, ema_decay=0.9, checkpoint_every_s=1e9, seed=3)

    def go(source: linear_problem.Source, run: Path, config: TrainConfig = config) -> FitResult:
        model, loss = linear_problem.Net(nnx.Rngs(0)), linear_problem.loss
        return fit(model, loss, source, linear_problem.Source(48, 1), config, run, progress=False)

    with pytest.raises(KeyboardInterrupt):
        go(Stopped(), tmp_path / "stopped")
    (kept,) = (tmp_path / "stopped" / "checkpoints").glob("0*")
    at = json.loads((kept / "note.json").read_text())["progress"]
    assert at["epoch"] == 2
    assert 0 < at["batch"] < 8
    assert int(kept.name) == 16 + at["batch"]
    resumed, whole = go(linear_problem.Source(), tmp_path / "stopped"), go(linear_problem.Source(), tmp_path / "whole")
    for a, b in zip(linear_problem.weights(resumed), linear_problem.weights(whole), strict=True):
        assert a.tobytes() == b.tobytes()
    for a, b in zip(resumed.history, whole.history, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_checkpoint_comes_within_an_epoch_too(tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, learning_rate=0.05, ema_decay=0.9, checkpoint_every_s=1e-9, seed=3)

    class Killed(linear_problem.Source):
        def epoch(self, index: int) -> Iterator[Batch]:
            for i, batch in enumerate(super().epoch(index)):
                if (index, i) == (1, 5):
                    raise MemoryError
                yield batch

    def go(source: linear_problem.Source, run: Path, config: TrainConfig = config) -> FitResult:
        model, loss = linear_problem.Net(nnx.Rngs(0)), linear_problem.loss
        return fit(model, loss, source, linear_problem.Source(48, 1), config, run, progress=False)

    with pytest.raises(MemoryError):
        go(Killed(), tmp_path / "killed")
    newest = max((tmp_path / "killed" / "checkpoints").glob("0*"))
    assert json.loads((newest / "note.json").read_text())["progress"]["batch"] > 0
    resumed = go(linear_problem.Source(), tmp_path / "killed")
    whole = go(linear_problem.Source(), tmp_path / "whole", replace(config, checkpoint_every_s=None))
    for a, b in zip(linear_problem.weights(resumed), linear_problem.weights(whole), strict=True):
        assert a.tobytes() == b.tobytes()
    for a, b in zip(resumed.history, whole.history, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_eight_devices_give_what_one_gives(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); "
        "import linear_problem as p, jax, numpy as n;"
        "r = p.train(Path(sys.argv[1]), every_s=None); assert len(jax.devices()) == int(sys.argv[3]);"
        "n.savez(sys.argv[1] + '/w.npz', *p.weights(r), loss=[h['train/loss'] for h in r.history])"
    )
    assert len(jax.devices()) == 1
    result = linear_problem.train(tmp_path / "one", every_s=None)
    np.savez(tmp_path / "w.npz", *linear_problem.weights(result), loss=[row["train/loss"] for row in result.history])
    (tmp_path / "eight").mkdir()
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "eight"), str(SCRIPT.parent), "8"],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(Path.cwd())},
        check=True,
    )
    one, eight = np.load(tmp_path / "w.npz"), np.load(tmp_path / "eight" / "w.npz")
    assert one.files == eight.files
    for name in one.files:
        np.testing.assert_allclose(one[name], eight[name], rtol=2e-5, atol=1e-6)


def test_time_runs_out_cleanly_with_usable_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(epochs=10_000, learning_rate=0.05, ema_decay=0.9, max_seconds=3.0, checkpoint_every_s=None)
    # A clock on which each look takes a millisecond, so that as many steps fit on every machine.
    looks = itertools.count()
    monkeypatch.setattr(training_time, "time", SimpleNamespace(perf_counter=lambda: next(looks) * 1e-3))
    result = fit(
        linear_problem.Net(nnx.Rngs(0)),
        linear_problem.loss,
        linear_problem.Source(),
        linear_problem.Source(48, 1),
        config,
        tmp_path,
        progress=False,
    )
    assert result.stopped_by == "max_seconds"
    # It ended within a step, though the epoch was not over.
    assert 3.0 <= next(looks) * 1e-3 < 3.1
    assert result.best < 0.1
    assert result.history[-1]["learning_rate"] < 0.1 * 0.05


def test_processor_time_ends_a_training_within_a_step_and_its_schedule_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        epochs=10_000, learning_rate=0.05, ema_decay=0.9, max_core_seconds=3.0, checkpoint_every_s=None
    )
    looks = itertools.count()
    monkeypatch.setattr(training_time, "LOOK_S", 0.0)
    monkeypatch.setattr(training_time, "tree_seconds", lambda: next(looks) * 1e-3)
    source = linear_problem.Source()
    result = fit(linear_problem.Net(nnx.Rngs(0)), linear_problem.loss, source, None, config, tmp_path, progress=False)
    assert result.stopped_by == "max_core_seconds"
    # The clock is read twice in a step, and once more before and after an epoch.
    assert 3.0 <= next(looks) * 1e-3 < 3.01
    assert int(result.history[-1]["step"]) > 3000 / 2 / (1 + 2 / source.steps_per_epoch) - 3
    assert result.history[-1]["learning_rate"] < 0.1 * 0.05
    middle = result.history[len(result.history) // 2]["learning_rate"]
    assert middle == pytest.approx(config.rate(0.5), rel=0.05)


def test_training_ends_when_validation_no_longer_improves(tmp_path: Path) -> None:
    config = TrainConfig(epochs=500, learning_rate=0.05, ema_decay=0.5, patience=5, schedule="constant")
    result = fit(
        linear_problem.Net(nnx.Rngs(0)),
        linear_problem.loss,
        linear_problem.Source(),
        linear_problem.Source(48, 1),
        config,
        tmp_path,
        progress=False,
    )
    assert result.stopped_by == "patience"
    assert result.best == min(row["valid/loss"] for row in result.history)


class Poisoned(linear_problem.Source):
    """Every label of some batches is NaN."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def epoch(self, index: int) -> Iterator[Batch]:
        for i, batch in enumerate(super().epoch(index)):
            bad = (i + index * self.steps_per_epoch) * self.share % 1 < self.share
            yield {**batch, "y": batch["y"] * np.float32(np.nan)} if bad else batch


def test_a_step_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    config = TrainConfig(epochs=40, learning_rate=0.05, ema_decay=0.9, checkpoint_every_s=None)
    result = fit(
        linear_problem.Net(nnx.Rngs(0)), linear_problem.loss, Poisoned(0.02), None, config, tmp_path, progress=False
    )
    for array in linear_problem.weights(result):
        assert np.isfinite(array).all()


def test_a_loss_that_is_not_finite_ends_the_run_with_a_remedy(tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, checkpoint_every_s=None)
    with pytest.raises(InputError, match="learning_rate"):
        fit(linear_problem.Net(nnx.Rngs(0)), linear_problem.loss, Poisoned(0.5), None, config, tmp_path, progress=False)


def test_resuming_with_another_recipe_is_refused(tmp_path: Path) -> None:
    linear_problem.train(tmp_path, epochs=2)
    config = TrainConfig(epochs=4, learning_rate=0.01, ema_decay=0.9, checkpoint_every_s=0.0, seed=3)
    with pytest.raises(InputError, match="learning_rate"):
        fit(
            linear_problem.Net(nnx.Rngs(0)), linear_problem.loss, linear_problem.Source(), None, config, tmp_path,
            progress=False,
        )  # fmt: skip


def test_a_setting_that_a_checkpoint_lacks_was_its_default(tmp_path: Path) -> None:
    linear_problem.train(tmp_path, epochs=2)
    for place in (tmp_path / "checkpoints").glob("0*"):
        note = json.loads((place / "note.json").read_text())
        del note["config"]["clip_norm"]
        write_json(place / "note.json", note)
    assert len(linear_problem.train(tmp_path, epochs=4).history) == 4
    for place in (tmp_path / "checkpoints").glob("0*"):
        note = json.loads((place / "note.json").read_text())
        del note["config"]["learning_rate"]  # which is not at its default
        write_json(place / "note.json", note)
    with pytest.raises(InputError, match="other settings: learning_rate"):
        linear_problem.train(tmp_path, epochs=5)


def test_a_note_of_other_types_is_named(tmp_path: Path) -> None:
    whole = {"progress": to_plain(Progressed()), "config": {"seed": 0}}
    save_arrays(tmp_path / "kept", {"a": np.zeros(2)}, whole)
    assert read_progress(tmp_path / "kept", {"seed": 0, "epsilon": None}, None, tmp_path).epoch == 0
    note = json.loads((tmp_path / "kept" / "note.json").read_text())
    changes: list[tuple[str, object]] = [
        ("progress", None), ("progress.epoch", -1), ("progress.seconds", "x"), ("progress.history", [3]),
        ("progress.best", "inf"), ("config", [1]), ("leaves", "7"), ("sha256", None), ("files", []),
    ]  # fmt: skip
    for key, value in changes:
        outer, _, inner = key.partition(".")
        changed = {**note, outer: {**note[outer], inner: value} if inner else value}
        write_json(tmp_path / "kept" / "note.json", changed)
        with pytest.raises(CorruptStoreError, match=rf"note\.json: {outer}"):
            read_progress(tmp_path / "kept", {"seed": 0}, None, tmp_path)
    write_json(tmp_path / "kept" / "note.json", {**note, "leaves": 10**9})
    with pytest.raises(InputError, match="1000000000 arrays, 1 are expected"):
        load_arrays(tmp_path / "kept", {"a": np.zeros(2)})


def test_saved_arrays_do_not_say_where_they_were_saved(tmp_path: Path) -> None:
    save_arrays(tmp_path / "kept", {"a": np.arange(3.0)}, {})
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if os.fsencode(tmp_path) in path.read_bytes()]
    (tmp_path / "kept").rename(tmp_path / "moved")
    assert load_arrays(tmp_path / "moved", {"a": np.zeros(3)})["a"].tolist() == [0.0, 1.0, 2.0]


def test_of_damaged_checkpoints_the_one_before_is_taken_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = linear_problem.weights(linear_problem.train(tmp_path, epochs=4))
    older, newest = sorted((tmp_path / "checkpoints").glob("0*"))
    largest = max((p for p in (newest / "arrays").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    _change_a_byte(largest)
    resumed = linear_problem.train(tmp_path, epochs=4)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith(f"the training resumes from checkpoint {older.name}")
    assert str(largest) in said
    for one, other in zip(whole, linear_problem.weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    # Weights of a checkpoint whose note says another progress would be others in the end.
    for place in (tmp_path / "checkpoints").glob("0*"):
        _change_a_byte(place / "note.json")
    with pytest.raises(CorruptStoreError, match=r"note\.json"):
        linear_problem.train(tmp_path, epochs=5)


def test_two_checkpoints_are_kept_and_damaged_ones_of_further_on_are_not(tmp_path: Path) -> None:
    for name in ("000000008", "000000016", "000000024", "000000032", ".000000040.half"):
        (tmp_path / name).mkdir()
    drop_others(tmp_path, "000000024")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".000000040.half", "000000016", "000000024"]


def _change_a_byte(file: Path) -> bytes:
    """Change the byte in the middle of a file; answers what it was."""
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    file.write_bytes(damaged)
    return content


def test_curves_are_in_mlflow_where_asked_for(tmp_path: Path) -> None:
    config = TrainConfig(epochs=3, checkpoint_every_s=None, mlflow=True)
    fit(
        linear_problem.Net(nnx.Rngs(0)), linear_problem.loss, linear_problem.Source(), None, config, tmp_path,
        progress=False,
    )  # fmt: skip
    written = [p for p in (tmp_path / "mlruns").rglob("loss") if p.parent.name == "train"]
    assert len(written) == 1
    assert len(written[0].read_text().splitlines()) == 3


def test_a_resumed_run_goes_on_in_the_same_mlflow_run_with_each_step_once(tmp_path: Path) -> None:
    def go(epochs: int) -> None:
        config = TrainConfig(epochs=epochs, checkpoint_every_s=0.0, mlflow=True)
        fit(
            linear_problem.Net(nnx.Rngs(0)), linear_problem.loss, linear_problem.Source(), None, config, tmp_path,
            progress=False,
        )  # fmt: skip

    go(2)
    # A kill between an epoch and its checkpoint: the epoch is in MLflow, and is made again.
    shutil.rmtree(max((tmp_path / "checkpoints").glob("0*")))
    go(4)
    written = [p for p in (tmp_path / "mlruns").rglob("loss") if p.parent.name == "train"]
    assert len(written) == 1
    assert [int(line.split()[-1]) for line in written[0].read_text().splitlines()] == [8, 16, 24, 32]
    log_scores(tmp_path, {"test/mae": 0.25})
    log_scores(tmp_path, {"test/mae": 0.25})
    (scores,) = (tmp_path / "mlruns").rglob("mae")
    assert [line.split()[1:] for line in scores.read_text().splitlines()] == [["0.25", "32"]]
