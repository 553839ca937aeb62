"""A simulator that another command names: packaged, or as an earlier run used it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from data.errors import InputError
from experiments.application.choices import CONF
from experiments.application.stage import instantiate
from experiments.campaigns.named_simulator import named_simulator


def test_a_simulator_is_named_within_a_stage_that_hydra_runs(tmp_path: Path) -> None:
    """As `recheck.simulator` of a screen does; with the settings that it is given, and a case of the user's own."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        running = GlobalHydra.instance().hydra
        simulator = named_simulator("burgers", ["simulator.points=64"], key="recheck.simulator")
        assert GlobalHydra.instance().hydra is running
        config = compose("simulate", ["simulator=burgers", "simulator.points=64", "simulator.steps=7"])
        OmegaConf.save(config, tmp_path / "config.yaml", resolve=False)
        expected = instantiate(config.simulator)
    assert (simulator.points, simulator.steps) == (64, 40)
    for name in (tmp_path, tmp_path / "config.yaml"):
        again = named_simulator(str(name), [], key="recheck.simulator")
        assert again.fingerprint == expected.fingerprint
    finer = named_simulator(str(tmp_path), ["simulator.points=128"], key="recheck.simulator")
    assert (finer.points, finer.steps) == (128, 7)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("burger", [], "no simulator 'burger'. Did you mean burgers"),
        ("run", ["simulator.pionts=3"], "pionts"),
        ("empty", [], "no config.yaml in it"),
        ("screen", [], "holds no simulator"),
    ],
)
def test_what_is_no_simulator_is_refused(
    name: str, settings: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, text in (("run", "simulator:\n  points: 3\n"), ("screen", "stage: screen\n"), ("empty", None)):
        (tmp_path / folder).mkdir()
        if text is not None:
            (tmp_path / folder / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        named_simulator(name, settings, key="recheck.simulator")
