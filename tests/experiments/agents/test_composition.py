"""What a program asks for is composed as a command would be, and cannot name code, other places, hosts or variables."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data.errors import InputError
from experiments.agents.composition import Composed, Permissions, compose_stage
from experiments.agents.confinement import Root, capped
from experiments.agents.predictions import surrogate_place
from experiments.application.stage import instantiate
from experiments.application.targets import WITHOUT
from experiments.cli import STAGES

KINETICS = ("simulator=robertson", "sampling=robertson", "sampling.count=5")


def composed(root: Path, stage: str, *overrides: str, permissions: Permissions | None = None) -> Composed:
    return compose_stage(STAGES, stage, overrides, Root(root), permissions or Permissions())


def test_the_same_settings_in_any_order_are_the_same_run_in_a_place_of_its_own(tmp_path: Path) -> None:
    one, other = (composed(tmp_path, "simulate", *order) for order in (KINETICS, KINETICS[::-1]))
    assert one.id == other.id != composed(tmp_path, "simulate", *KINETICS, "sampling.seed=3").id
    assert one.run_dir == tmp_path / "runs" / f"simulate-{one.id}"
    assert one.plain["out"] == f"runs/simulate-{one.id}/labels.zarr"
    assert one.plain["sampling"]["count"] == 5
    assert not list(tmp_path.iterdir())


def test_values_that_are_missing_are_named(tmp_path: Path) -> None:
    assert set(composed(tmp_path, "predict", "surrogate=s").missing) == {"inputs", "out"}
    # Where the run lies follows from a value that is missing.
    assert composed(tmp_path, "predict", "surrogate=s").run_dir is None


def test_a_surrogate_of_the_package_may_be_named_although_it_lies_outside_of_the_root(tmp_path: Path) -> None:
    assert set(composed(tmp_path, "predict", "surrogate=shipped:organic").missing) == {"inputs", "out"}
    assert composed(tmp_path, "train", "task=molecules/few_labels", "data.train=a.xyz").missing == ()
    assert (surrogate_place("shipped:organic", Root(tmp_path)) / "surrogate.json").is_file()
    for name in ("shipped:../organic", "shipped:organic/weights", "shipped:"):
        with pytest.raises(InputError, match=r"not part of this package"):
            surrogate_place(name, Root(tmp_path))


@pytest.mark.parametrize(
    ("stage", "override", "words"),
    [
        ("simulate", "simulator._target_=subprocess.Popen", "may not name a class"),
        ("simulate", "+simulator={_target_: os.system}", "may not name a class"),
        ("simulate", "inputs=${oc.env:HOME}", "may not refer"),
        ("simulate", "hydra.run.dir=x", "Hydra"),
        ("simulate", "--config-dir=x", "is no setting"),
        ("simulate", "--multirun", "is no setting"),
        ("simulate", "launcher=submitit", "not set through"),
        ("simulate", "campaign.address=tcp://h:1", "not set through"),
        ("simulate", "inputs=../molecules.smi", "outside of the root"),
        ("simulate", "inputs=/etc/hostname", "outside of the root"),
        ("simulate", "inputs='~/x.smi'", "outside of the root"),
        ("simulate", "out=link/labels.zarr", "outside of the root"),
        ("simulate", "inputs=folder", "holds a link that leads out"),
        ("simulate", "inputs=s3://bucket/x.csv", "address beyond this machine"),
        ("simulate", "simulator=ase", "runs programs"),
        ("simulate", "simulator=openfoam_step", "runs programs"),
        ("simulate", "campaign.workers=-1", "must lie in"),
        ("simulate", "simulator=robertsonn", "no choice"),
        ("simulate", "nosuch=1", "no such key"),
        ("train", "model=mlp,mpnn", "may be a list"),
        ("nosuch", "a=1", "no stage"),
        ("serve", "surrogate=s", "a person starts this command"),
    ],
)
def test_what_a_command_of_a_person_could_do_is_refused(stage: str, override: str, words: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "beyond").mkdir()
    (root / "link").symlink_to(tmp_path / "beyond")
    (root / "folder" / "labels").symlink_to(tmp_path / "beyond")
    with pytest.raises(InputError, match=words):
        composed(root, stage, override)
    assert not list((tmp_path / "beyond").iterdir())


def test_a_link_within_the_root_is_a_path_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert Root(tmp_path).inside("b/x", "out") == tmp_path / "a" / "x"


def test_programs_and_hosts_are_allowed_by_name(tmp_path: Path) -> None:
    allowed = Permissions(frozenset({"ase"}), network=True)
    ase = composed(tmp_path, "simulate", "simulator=ase", "inputs=s3://bucket/x.csv", permissions=allowed)
    assert ase.plain["simulator"]["calculator"] == "ase.calculators.emt.EMT"
    with pytest.raises(InputError, match="openfoam runs programs"):
        composed(tmp_path, "simulate", "simulator=openfoam", permissions=allowed)


def test_a_process_that_is_told_so_builds_no_simulator_that_runs_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    node = OmegaConf.create({"_target_": "simulators.chemistry.ase_calculator.ASECalculator"})
    node.calculator, node.parameters, node.outputs = "ase.calculators.emt.EMT", {}, ["energy"]
    assert instantiate(node).name.startswith("ase:")
    monkeypatch.setenv(WITHOUT, "openfoam,ase")
    with pytest.raises(InputError, match="not allowed here"):
        instantiate(node)


def test_texts_of_others_have_no_control_characters_and_an_end() -> None:
    assert capped("a\x1b[31mred\nline") == "a\\x1b[31mred line"
    assert capped("x" * 1000, 20) == "x" * 19 + "…"
