"""The command: its help, its exit statuses, and errors that teach in one line."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked_commands import endings, understudy
from omegaconf import OmegaConf

from data.errors import InputError
from data.reading_summary import Reading
from data.spec import Variable
from data.store.records import RecordStore
from data.terminal import show_pairs
from experiments.application.hydra_options import refuse_unsafe
from experiments.application.stage import instantiate
from experiments.application.system_errors import system_error
from experiments.application.targets import refuse_other_targets, targets
from experiments.cli import STAGES, run_stage
from surrogates.learning.sample_task import target_columns
from surrogates.properties.property_table import PropertyTable
from surrogates.properties.scores import in_units_of


def test_help_names_every_stage_whatever_files_lie_in_the_working_directory(tmp_path: Path) -> None:
    for name in ("data", "simulators", "surrogates"):
        (tmp_path / f"{name}.py").write_text("raise ValueError('not ours')\n")
    # As a person would run it, in an interpreter of its own.
    command = [sys.executable, "-m", "understudy", "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0
    for stage in STAGES:
        assert f"  {stage} " in result.stdout
    assert "130" in result.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_a_stage_shows_examples_and_options_and_runs_nothing(stage: str, tmp_path: Path) -> None:
    result = understudy(stage, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"understudy {stage}:")
    assert f"understudy {stage} " in result.stdout
    assert "Options" in result.stdout
    assert "$" not in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["nonsense", "pipeline"]),
        (["train", "data.colour=red"], ["colour"]),
        (["train", "model=unheard_of"], ["unheard_of"]),
        (["simulate"], ["inputs"]),
        (["simulate", "inputs=absent.csv"], ["absent.csv"]),
        (["screen", "surrogate=absent", "candidates=absent.csv", "out=o"], ["absent"]),
        (["evaluate", "surrogate=absent", "data.test=[absent.csv]"], ["absent"]),
        (["train", "--experimental-rerun=job.pickle"], ["no option"]),
    ],
)
def test_a_usage_error_is_one_line_and_status_two(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    result = understudy(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_a_package_of_another_folder_on_the_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("raise ValueError('not ours')\n")
    (tmp_path / "here").mkdir()
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-m", "understudy", "--help"],
        cwd=tmp_path / "here", env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert str(tmp_path / "data.py") in result.stderr


def make_workplace(path: Path) -> None:
    """A table twice, a store of geometries without SMILES, an SDF, and a file where a folder should be."""
    table = "smiles,gap\n" + "".join(f"{'C' * n},{n}\n" for n in range(1, 60))
    for name in ("labels.csv", "twin/labels.csv"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(table)
    (path / "conf" / "task").mkdir(parents=True)
    (path / "conf" / "task" / "old.yaml").write_text("# @package _global_\nsurrogate: {ensemble: 2}\n")
    (path / "molecules.mol2").write_text("\n")
    (path / "file").write_text("")
    inputs = [Variable("charge", (), "e", "int32", "total charge")]
    outputs = [Variable("gap", (), "eV", "float64", "gap")]
    with RecordStore.create(path / "geometries.zarr", inputs, outputs, provenance={}, attrs={}) as records:
        values = {"charge": 0, "gap": 1.0}
        records.append("key", values, status="ok", message="", seconds=1.0, threads=1, attempts=1)


GRAPH = ["train", "task=molecules/properties", "data.target=gap", "run.dir=run"]
PIPELINE = ["pipeline", "task=molecules", "run.dir=run"]
SCREEN = ["screen", "surrogate=absent", "candidates=labels.csv", "out=out"]


MISTAKES: list[tuple[list[str], list[str]]] = [
    ([*PIPELINE, "targets=[nonsense]"], ["nonsense", "targets", "dipole_moment"]),
    ([*PIPELINE, "targets=[gap]"], ["objective", "dipole_moment"]),
    ([*PIPELINE, "candidates=molecules.mol2"], ["molecules.mol2", ".smi"]),
    ([*PIPELINE, "candidates=labels.csv", "smiles=structure"], ["labels.csv", "structure"]),
    ([*PIPELINE, "expensive.train=abc"], ["expensive.train", "abc"]),
    ([*PIPELINE, "expensive.calibration=5"], ["expensive.calibration", "9 or more"]),
    ([*PIPELINE, "seed=-1"], ["seed", "-1"]),
    ([*PIPELINE, "+finetune.colour=red"], ["finetune.colour", "max_seconds"]),
    ([*PIPELINE, "+colour=red"], ["colour", "candidates"]),
    ([*PIPELINE, "dear.train=8"], ["dear: this key is called expensive now", "Write expensive.train=8"]),
    ([*PIPELINE, "simulator@dear.simulator=xtb"], ["Write simulator@expensive.simulator=xtb"]),
    ([*PIPELINE, "train@pretrain=graph"], ["train@pretrain: ", "Write train@pretrain=properties"]),
    ([*GRAPH, "surrogate=mpnn_large"], ["surrogate: this key is called model now", "Write model=mpnn_large"]),
    ([*GRAPH, "surrogate.network.width=8"], ["surrogate: this key is called model now", "model.network.width=8"]),
    ([*GRAPH, "+surrogate.ensemble=2"], ["surrogate: this key is called model now", "Write +model.ensemble=2"]),
    (
        ["train", "--config-dir=conf", "task=old", "run.dir=run"],
        ["surrogate: this key is called model now", "Write model in the file that has it"],
    ),
    (["train", "task=weather/forecasts", "model.unroll=2"], ["model.unroll: this key is called model.loss.unroll now"]),
    (
        ["train", "task=fluids/trajectories", "model.network.dtype=bfloat16"],
        ["model.network.dtype: this key is called model.network.precision now"],
    ),
    (["train", "task=fluids/fields", "model.noise=0.1"], ["Write model.loss.noise"]),
    (["train", "task=weather/forecasts", "model.adjust_runs=2"], ["Write model.climate.runs"]),
    ([*SCREEN, "simulator=xtb"], ["simulator: is not chosen in this stage"]),
    ([*PIPELINE, "+expensive.colour=red"], ["expensive.colour", "calibration"]),
    ([*GRAPH, "data.file=geometries.zarr"], ["geometries.zarr", "no smiles"]),
    ([*GRAPH, "data.file=geometries.zarr", "data.target=nope"], ["geometries.zarr", "no nope"]),
    ([*GRAPH, "data.file=labels.csv", "data.parts=[0.8,0.2]"], ["data", "parts", "4 numbers"]),
    ([*GRAPH, "data.file=labels.csv", "data.seed=-1"], ["seed", "-1"]),
    ([*GRAPH, "data.file=labels.csv", "train.seed=-1"], ["train", "seed", "-1"]),
    ([*GRAPH, "data.file=labels.csv", "+data.colour=red"], ["data.colour", "parts"]),
    ([*GRAPH, "data.file=labels.csv", "+colour=red"], ["colour", "devices"]),
    ([*GRAPH, "data.file=labels.csv", "data.split=halves"], ["halves", "scaffold"]),
    ([*GRAPH], ["data.file"]),
    ([*GRAPH, "data.file=labels.csv", "run.dir=file"], ["file", "exists"]),
    ([*GRAPH, "data.file=labels.csv", "run.dir=file/run"], ["file/run", "directory"]),
    ([*SCREEN, "top_k=-1"], ["top_k", "-1"]),
    ([*SCREEN, "top_k=abc"], ["top_k", "abc"]),
    ([*SCREEN, "workers=0"], ["workers", "0"]),
    ([*SCREEN, "+colour=red"], ["colour", "objective"]),
    (["evaluate", "surrogate=absent", "data.test=[a]", "+data.colour=red"], ["data.colour", "target"]),
    (
        ["evaluate", "surrogate=absent", "data.test=[labels.csv,twin/labels.csv]"],
        ["data.test", "two files"],
    ),
    (["simulate", "inputs=labels.csv", "limit=-1"], ["limit", "-1"]),
    (["simulate", "inputs=labels.csv", "limit=1", "out=file/store.zarr"], ["file", "directory"]),
]


@pytest.fixture(scope="module")
def refused(once: Callable[[str, Callable[[Path], object]], Path]) -> tuple[Path, list[tuple[int, str]]]:
    """The directory in which each of `MISTAKES` was made, with its exit status and what it said."""

    def make(path: Path) -> None:
        path.mkdir()
        make_workplace(path)
        ended = endings([arguments for arguments, _ in MISTAKES], path)
        (path / "endings.json").write_text(json.dumps(ended))

    path = once("refused-commands", make)
    return path, [(status, said) for status, said in json.loads((path / "endings.json").read_text())]


@pytest.mark.parametrize("case", range(len(MISTAKES)), ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_what_a_person_gets_wrong_is_named_in_one_line_before_anything_is_computed(
    case: int, refused: tuple[Path, list[tuple[int, str]]]
) -> None:
    path, ended = refused
    status, said = ended[case]
    assert status == 2, said
    assert len(said.strip().splitlines()) == 1, said
    for word in MISTAKES[case][1]:
        assert word in said
    assert not list(path.glob("run/labels/*"))


def test_only_errors_of_paths_and_disks_are_the_users(tmp_path: Path) -> None:
    assert "directory" in str(system_error(NotADirectoryError(errno.ENOTDIR, "x", "file/run")))
    wrapped = ValueError("handler")
    wrapped.__cause__ = OSError(errno.ENOSPC, "x", str(tmp_path))
    assert str(tmp_path) in str(system_error(wrapped))
    assert system_error(OSError(errno.EBADF, "x")) is None
    assert system_error(ValueError("ours")) is None


def test_as_many_columns_as_targets_are_compared() -> None:
    assert target_columns(["gap", "dipole"], []) == {"gap": "gap", "dipole": "dipole"}
    assert target_columns(["gap"], ["measured"]) == {"gap": "measured"}
    with pytest.raises(InputError, match=r"2 columns are named, the surrogate has 1 targets \(gap\)"):
        target_columns(["gap"], ["a", "b"])
    with pytest.raises(InputError, match="a is named for more than one"):
        target_columns(["gap", "dipole"], ["a", "a"])


def test_a_target_outside_the_project_is_never_instantiated(tmp_path: Path) -> None:
    molecules = tmp_path / "one.smi"
    molecules.write_text("CCO\n")
    result = understudy(
        "simulate", f"inputs={molecules}", "simulator._target_=os.system", f"run.dir={tmp_path / 'run'}", cwd=tmp_path
    )
    assert result.returncode == 2
    assert "os.system" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--exp=evil.pickle"], "no option --exp"),
        (["--experimental-rerun", "evil.pickle"], "no option --experimental-rerun"),
        (["--config-pa=evil"], "no option --config-pa"),
        (["+hydra.callbacks.x._target_=os.system"], "some of its keys name code to run"),
        (["hydra/launcher=joblib"], "some of its keys name code to run"),
        (["hydra.launcher._target_=os.system"], "some of its keys name code to run"),
        (["--config-dir", "evil"], "sets keys of Hydra itself"),
        (["-cd=evil"], "sets keys of Hydra itself"),
    ],
)
def test_no_option_runs_code_from_outside(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil" / "experiment").mkdir(parents=True)
    (tmp_path / "evil" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  callbacks:\n    x:\n      _target_: os.system\n"
    )
    assert run_stage("train", arguments) == 2
    assert words in capsys.readouterr().err


def test_options_that_read_show_and_sweep_are_let_through(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("lr: 1\n")
    refuse_unsafe(["--cfg", "job", "--multirun", "-m", "--help", "--info", "defaults", "hydra.sweep.dir=x", "a=1,2"])
    refuse_unsafe([f"--config-dir={tmp_path}", "--resolve", "--package=data"])


@pytest.mark.parametrize(
    "target",
    [
        "data.store.records.Path.write_text", "simulators.fluids.openfoam.programs.run",
        "experiments.application.stage.hydra.utils.get_class",
        "simulators.chemistry.xtb.Spec", "data.claim.claim", "surrogates.saved.load_surrogate", "os.system",
    ],
)  # fmt: skip
def test_a_configuration_builds_the_classes_of_its_own_files_alone(target: str) -> None:
    for node in (
        {"_target_": target},
        {"_target_": "simulators.chemistry.xtb.XTB", "a": [{"b": {"_target_": target}}]},
    ):
        with pytest.raises(InputError, match="not a class that a configuration may build"):
            instantiate(OmegaConf.create(node))


def test_every_target_of_the_package_is_the_class_of_that_name() -> None:
    assert len(targets()) > 15
    for name in targets():
        refuse_other_targets({"_target_": name})


def test_names_and_texts_of_a_table_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"test/a_file_with_a_long_name/a_target_with_a_long_name/{metric}" for metric in ("mae", "coverage_90")]
    path = "/a/directory/" + "deep/" * 30 + "surrogate"
    show_pairs("Trained", {**dict.fromkeys(names, "0.123456"), "surrogate": path})
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(names, lines[1:], strict=False):
        assert line.split() == [name, "0.123456"]
    assert lines[3].split() == ["surrogate", path]


def test_a_table_is_compared_in_the_units_of_the_surrogate(tmp_path: Path) -> None:
    units = {"gap": "eV", "dip": "1"}
    columns = {"gap": "measured", "dip": "dip"}

    def table(unit: str) -> PropertyTable:
        values = {"measured": np.zeros(1), "dip": np.zeros(1)}
        return PropertyTable(["C"], values, {"measured": unit, "dip": "Debye"}, "", Reading("a.csv", "table"))

    assert in_units_of(units, table("eV"), columns, tmp_path).reading.assumed == ()
    said = in_units_of(units, table("1"), columns, tmp_path).reading.assumed
    assert said == ("measured is in eV, in which the surrogate gives gap",)
    with pytest.raises(InputError, match="measured is in Hartree, the surrogate gives gap in eV"):
        in_units_of(units, table("Hartree"), columns, tmp_path)


def test_programs_that_tests_start_import_the_packages_of_this_clone(tmp_path: Path) -> None:
    program = "import data, experiments; print(data.__file__, experiments.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    root = Path(__file__).resolve().parents[3]
    assert done.stdout.split() == [str(root / name / "__init__.py") for name in ("data", "experiments")]
