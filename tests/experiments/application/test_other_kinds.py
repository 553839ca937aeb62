"""A value of another kind under any key of any group is taken, or refused in one line: never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.errors import InputError
from data.spec import SimulationError
from experiments.application.choices import CONF, options
from experiments.application.stage import instantiate
from experiments.application.strict import read_packaged, refuse_flattened
from experiments.cli import STAGES
from experiments.screening.objective import read_objective
from experiments.stages.train import settings_of
from surrogates.family import family_of

VALUES = (1, None, "zz", [[1]], {"zz": 1})
#: Group -> stage that has it, what the stage needs, and what builds the choice.
GROUPS: dict[str, tuple[str, list[str], Callable[[DictConfig], Any]]] = {
    "simulator": ("simulate", [], instantiate),
    "source": ("windows", ["out=x"], instantiate),
    "objective": ("screen", ["surrogate=x", "candidates=x"], read_objective),
}
#: Choices with a class of their own; others are settings of these.
CHOICES = [
    (group, choice)
    for group in GROUPS
    for choice in options(group)
    if "defaults:" not in (CONF / group / f"{choice}.yaml").read_text(encoding="utf-8")
]
MOLECULES = "smiles,gap,part\n" + "".join(f"{'C' * n},{n},train\n" for n in range(1, 9))
FRAME = "1\nenergy=1.0 Properties=species:S:1:pos:R:3:forces:R:3\nH 0 0 0 0 0 0\n"
TASKS = {
    "molecules/properties": ["data.file=a.csv", "data.target=gap"],
    "molecules/potentials": ["data.train=a.xyz"],
    "fluids/drag": ["data.file=b.csv", "data.inputs=[speed]", "data.target=drag"],
}


def keys(node: DictConfig, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all keys, groups of keys included."""
    for key in node:
        yield (*path, str(key))
        if isinstance(node._get_node(key), DictConfig) and not node._get_node(key)._is_none():
            yield from keys(node[key], (*path, str(key)))


def ending(run: Callable[[], object], what: str) -> str:
    """How a run ends: with a line of an error that a command prints, or "" without one."""
    try:
        run()
    except (InputError, OmegaConfBaseException) as error:
        return str(error) or "nothing is said"
    except SimulationError as error:
        return error.message if error.kind in ("invalid_input", "missing_component") else what
    except Exception as error:
        raise AssertionError(what) from error
    return ""


def tried(config: DictConfig, group: str, build: Callable[[DictConfig], Any]) -> int:
    """Give every key of a group every value, and count what was refused; what is refused otherwise fails the test."""
    refused = 0
    assert "must be a" not in ending(lambda: build(config), "the configuration as it is")
    OmegaConf.set_struct(config, False)
    for path in [path for path in keys(config[group]) if path[-1] != "_target_"]:
        for value in VALUES:
            changed = config.copy()
            OmegaConf.update(changed, ".".join((group, *path)), value, merge=False)
            said = ending(lambda changed=changed: build(changed), f"{group}.{'.'.join(path)}={value!r}")  # type: ignore[misc]
            refused += said != ""
    return refused


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_what_is_built_takes_or_refuses(
    group: str, choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage, others, build = GROUPS[group]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(stage, [*others, f"{group}={choice}"])
    assert tried(config, group, lambda changed: build(changed[group])) > 0


@pytest.mark.parametrize("task", TASKS)
def test_what_is_read_takes_or_refuses(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(MOLECULES)
    (tmp_path / "b.csv").write_text("speed,drag\n" + "".join(f"{n},{n}\n" for n in range(8)))
    (tmp_path / "a.xyz").write_text(FRAME * 8)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"task={task}", *TASKS[task]])

    def read(changed: DictConfig) -> None:
        family_of(changed.model.kind, where="model.kind").task.of(settings_of(changed)).read(None, [])

    assert tried(config, "data", read) > 20


@pytest.mark.parametrize(
    "stage", [name for name in STAGES if any(isinstance(v, dict) for v in read_packaged(name).values())]
)
def test_a_value_in_the_place_of_a_group_of_keys_is_refused(stage: str) -> None:
    for group, content in read_packaged(stage).items():
        if isinstance(content, dict) and content:
            refuse_flattened(stage, OmegaConf.create({group: content}))
            for value in (1, None, "zz", [1]):
                with pytest.raises(
                    InputError, match=rf"^{group}: is a group of keys, got .*{group}\.{next(iter(content))}"
                ):
                    refuse_flattened(stage, OmegaConf.create({group: value}))
