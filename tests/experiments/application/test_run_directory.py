"""A run directory is held to the settings that its results depend on, and a refused command changes nothing in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from data.errors import CorruptStoreError, InputError
from data.files import write_bytes
from data.rejects import RejectLog
from experiments.application.run_directory import CONFIG, configuration_checked, keep_json, rejects_path, run_directory
from experiments.cli import STAGES

SETTINGS = {
    "stage": "train", "run": {"dir": "r"}, "data": {"file": "a.csv", "seed": 0},
    "train": {"epochs": 5, "max_seconds": 9},
    "devices": {"distributed": False}, "tune": {"replay": {}},
}  # fmt: skip


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below, with its bytes."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def settings(**changes: object) -> DictConfig:
    """The configuration of a training, with some values changed by their dotted keys."""
    config = OmegaConf.create(SETTINGS)
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return config


def run(path: Path, config: DictConfig, kind: str = "train") -> None:
    """A run that leaves a result."""
    with run_directory(config, path, kind) as directory:
        configuration_checked(directory)
        (directory / "metrics.json").write_text("{}")


@pytest.mark.parametrize("stage", [*STAGES, "active"])
def test_every_stage_refuses_a_directory_of_other_settings(tmp_path: Path, stage: str) -> None:
    if stage in ("report", "serve"):  # No result of theirs depends on a setting that is kept.
        return
    run(tmp_path, settings(stage=stage), stage)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"data\.seed=0 \(now 1\)"):
        run(tmp_path, settings(stage=stage, data__seed=1), stage)
    assert contents(tmp_path) == before


def test_where_how_fast_and_how_long_may_change(tmp_path: Path) -> None:
    run(tmp_path, settings())
    run(tmp_path, settings(run__dir="./r", train__max_seconds=20, train__epochs=7, devices__distributed=True))


def test_a_key_that_appears_or_goes_is_a_change(tmp_path: Path) -> None:
    run(tmp_path, settings())
    with pytest.raises(InputError, match=r"tune\.replay\.main=none \(now a\.xyz\)"):
        run(tmp_path, settings(tune__replay={"main": "a.xyz"}))


def test_a_refused_first_command_holds_the_directory_to_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"), run_directory(settings(), tmp_path, "train"):
        raise InputError("no such file")
    assert not (tmp_path / CONFIG).exists()
    run(tmp_path, settings(data__seed=1))


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    run(tmp_path, settings())
    (tmp_path / CONFIG).write_bytes(b"stage: [\xff")
    with pytest.raises(CorruptStoreError, match=r"config\.yaml"):
        run(tmp_path, settings())


def test_a_setting_that_came_after_the_run_has_its_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, settings())
    later = settings(data__limit=9, train__noise=0.0)
    run(tmp_path, later)
    assert "before data.limit and train.noise could be set; the default is taken" in caplog.text
    assert "data.limit=9, train.noise=0.0" in caplog.text
    run(tmp_path, later)  # It is one of the run's own now.
    with pytest.raises(InputError, match=r"train\.noise=0\.0 \(now 0\.5\)"):
        run(tmp_path, settings(data__limit=9, train__noise=0.5))


def test_a_setting_that_came_after_the_run_is_refused_where_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, settings())
    for argument in ("train.noise", "train"):
        monkeypatch.setattr(
            "experiments.application.run_directory._set_by_arguments", lambda argument=argument: [argument]
        )
        with pytest.raises(InputError, match=r"train\.noise=none \(now 0\.5\)"):
            run(tmp_path, settings(train__noise=0.5))


def test_what_a_refused_command_read_stays_beside_the_run(tmp_path: Path) -> None:
    def reads(rows: int, refused: bool) -> None:
        with run_directory(settings(), tmp_path, "train") as directory:
            with RejectLog(rejects_path(directory)) as rejects:
                for row in range(rows):
                    rejects.add("a.csv", row + 1, "text", "no number")
            keep_json(directory, "reading.json", [rows])
            if refused:
                raise InputError("too few rows", remedy="See rejects.csv in the run directory")

    # Where there is no run yet, the rows are where they always are.
    with pytest.raises(InputError, match=r"See rejects\.csv"):
        reads(1, refused=True)
    assert (tmp_path / "rejects.csv").exists()
    reads(2, refused=False)
    before = contents(tmp_path)
    assert b"2" in before["reading.json"]
    assert before["rejects.csv"].count(b"\n") == 3
    with pytest.raises(InputError, match=r"See rejects_of_refused\.csv"):
        reads(3, refused=True)
    after = contents(tmp_path)
    assert after.pop("rejects_of_refused.csv").count(b"\n") == 4
    assert after == before
    # Without rejected rows nothing is left beside.
    (tmp_path / "rejects_of_refused.csv").unlink()
    with pytest.raises(InputError):
        reads(0, refused=True)
    assert contents(tmp_path) == before
    reads(4, refused=False)
    assert (tmp_path / "rejects.csv").read_text().count("\n") == 5
    assert json.loads((tmp_path / "reading.json").read_text()) == [4]


#: What YAML can hold that no configuration of a run does.
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nstage: train\n"
DAMAGED = {
    "aliases": BOMB, "no mapping": "- 1\n", "text": "train", "tag": "stage: !!python/object:os.system {}\n",
    "nested": "a: " + "[" * 3000, "not text": "stage: \udcff", "cut": "stage: {a: ", "keys": "[1]: 2\n",
    "reference": "stage: ${nothing",
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_configuration_of_a_run_that_was_changed_is_named(tmp_path: Path, kind: str) -> None:
    run(tmp_path, settings())
    # With its checksum, as whoever makes it on purpose would write it.
    write_bytes(tmp_path / CONFIG, DAMAGED[kind].encode("utf-8", "surrogateescape"), listed=True)
    with pytest.raises(CorruptStoreError, match=r"config\.yaml: not readable: .*Name another run"):
        run(tmp_path, settings())
