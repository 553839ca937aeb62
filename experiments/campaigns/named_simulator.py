"""Builds the simulator that a command names: a packaged configuration, or the simulator of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.errors import InputError
from data.suggestions import did_you_mean
from experiments.application.choices import CONF
from experiments.application.composing import composing
from experiments.application.stage import instantiate
from experiments.application.yaml_files import load_yaml
from simulators.adapter import Simulator


def named_simulator(name: str, settings: Sequence[str], *, key: str) -> Simulator:
    """A simulator by its name, or by the run of `understudy simulate` that used it.

    Args:
        name: name of a configuration, such as ngsolve; or the run directory of `understudy simulate`, or its
            config.yaml, which contains the simulator with all its settings, even if it is a case of the user.
        settings: overrides such as `simulator.order=3`.
        key: configuration key that names the simulator, for error messages.

    Raises:
        InputError: there is neither such a configuration nor such a run, or a setting is refused.
    """
    path = Path(name).expanduser()
    if path.exists():
        node = _used_by(path, settings, key)
    else:
        packaged = sorted(p.stem for p in (CONF / "simulator").glob("*.yaml"))
        if name not in packaged:
            remedies = [did_you_mean(name, packaged), f"Choose from {', '.join(packaged)}"]
            remedies.append("or name the run of `understudy simulate` that made the labels")
            raise InputError(f"no simulator {name!r}", where=key, remedy=" ".join(filter(None, remedies)))
        with composing():
            node = compose("simulate", [f"simulator={name}", *settings]).simulator
    simulator: Simulator = instantiate(node)
    return simulator


def _used_by(path: Path, settings: Sequence[str], key: str) -> DictConfig:
    """The configuration of the simulator of a run, with overrides."""
    file = path / "config.yaml" if path.is_dir() else path
    try:
        config = load_yaml(file, remedy="Name another run of `understudy simulate`")
        if not isinstance(config.get("simulator"), DictConfig):
            raise InputError("holds no simulator", where=str(file), remedy="Name a run of `understudy simulate`")
        OmegaConf.set_struct(config, True)
        for setting in settings:
            name, _, value = setting.partition("=")
            OmegaConf.update(config, name, OmegaConf.create(f"value: {value}").value)
    except OSError as error:
        raise InputError(
            "no config.yaml in it", where=str(path), remedy=f"Give {key}= the run directory of `understudy simulate`"
        ) from error
    except OmegaConfBaseException as error:
        problem = f"{str(error).splitlines()[0]}, in {file}"
        raise InputError(problem, where=key.replace("simulator", "settings")) from error
    node: DictConfig = config.simulator
    return node
