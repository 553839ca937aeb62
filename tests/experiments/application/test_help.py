"""What the help and the pages tell a reader to type is what the commands take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from command_settings import assigned, flat, keys_of, read_yaml, refused
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.application.choices import CONF, EARLIER, groups
from experiments.application.hydra_options import refuse_unsafe
from experiments.cli import JSON, STAGES, usage

PAGES = ("README.md", "docs/*.md", "docs/guides/*.md")
#: An option of the help, such as `data.seed=N`, and what stands beside it up to the next one.
OPTION = re.compile(r"^  (?P<keys>[+\w@.]+=\S.*?)(?:  +|\n +)(?P<text>.*(?:\n {20,}.*)*)", re.MULTILINE)
KEY = re.compile(r"[+\w@.]+(?==)")
DEFAULT = re.compile(r"\(default ([^);:]+)")
#: Words in the place of a name that the reader chooses.
PLACE = re.compile(r"\.(KEY|NAME|TARGET|VARIABLE|HEAD)\b.*")
#: A choice with which a stage has a key that it lacks without one.
CHOICES = {
    "sampling": "sampling=burgers",
    "forecasts": "forecasts=held_out",
    "data.output": "data=fields",
    "model": "task=weather/forecasts",
    "model.members": "model=forecast_mixture",
    "data.inputs": "data=parameters",
    "data.parameters": "data=meshes",
    "data.train": "data=potentials",
    "data.valid": "data=potentials",
    "data.test": "data=potentials",
    "data.calibration": "data=potentials",
}


def values_of(stage: str, *overrides: str) -> dict[str, Any]:
    """Every key of a composed stage with its value, and the groups of the stage with their default choices."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain: Any = OmegaConf.to_container(compose(stage, list(overrides)), resolve=False)
    defaults = [item for item in read_yaml(CONF / f"{stage}.yaml")["defaults"] if isinstance(item, dict)]
    return dict(flat(plain, "")) | {key.split()[-1]: choice for item in defaults for key, choice in item.items()}


def help_of(stage: str) -> tuple[str, str]:
    """The two texts of the help of a stage: its examples, and its options."""
    texts = read_yaml(CONF / f"{stage}.yaml")["hydra"]["help"]
    return texts["header"], texts["footer"]


def commands(text: str) -> list[list[str]]:
    """The words of each line of a text that runs a stage of the command."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [
        shlex.split(line, comments=True) for line in lines if re.match(r" *(\.venv/bin/)?understudy \w+ .*=", line)
    ]
    return [line[1:] for line in words if line[1] in STAGES]


def pages(repository: Path) -> Iterator[tuple[str, str]]:
    for pattern in PAGES:
        for path in sorted(repository.glob(pattern)):
            yield path.name, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", STAGES)
def test_options_in_the_help_exist_and_have_the_default_that_it_states(stage: str) -> None:
    matches = list(OPTION.finditer(help_of(stage)[1]))
    assert len(matches) >= 2
    values = values_of(stage)
    for match in matches:
        names = [PLACE.sub("", key.removeprefix("+")) for key in KEY.findall(match["keys"])]
        for name in names:
            if name not in values:
                values = values_of(stage, CHOICES.get(name) or CHOICES[name.partition(".")[0]]) | values
            assert name in values, name
        if len(names) == 1 and (stated := DEFAULT.search(match["text"])):
            assert yaml.safe_load(stated[1]) == values[names[0]], f"{names[0]}: {stated[1]} in the help"


def test_command_lines_of_the_help_and_of_the_pages_are_accepted(repository: Path) -> None:
    texts = [("--help", usage()), *((f"{stage} --help", help_of(stage)[0]) for stage in STAGES), *pages(repository)]
    lines = [(where, words) for where, text in texts for words in commands(text)]
    assert {words[0] for _, words in lines} == set(STAGES)
    assert len(lines) > 40
    of_stage = {stage: keys_of(stage) for stage in STAGES}
    for where, (stage, *arguments) in lines:
        # The command takes its own option away before it looks at those of Hydra.
        refuse_unsafe([argument for argument in arguments if argument != JSON])
        for argument in [a for a in arguments if not a.startswith(("--", "hydra"))]:
            name, value = assigned(argument)
            assert not refused(name, value, set(groups(stage)), of_stage[stage]), f"{where}: {stage} {argument}"


def test_settings_named_in_the_sentences_of_the_pages_exist(repository: Path) -> None:
    keys = set().union(*(keys_of(stage) for stage in STAGES))
    of_groups = {group for stage in STAGES for group in groups(stage)} - EARLIER
    # Decisions also tell what was tried and is gone.
    spans = [
        (page, s)
        for page, text in pages(repository)
        if page != "decisions.md"
        for s in re.findall(r"`([^`\n]+)`", text)
        # An element of XML, of another program's input, has attributes that look like settings.
        if not s.startswith("<")
    ]
    pair = re.compile(r"(?:^|(?<=[ '\[]))\+?([a-z_]+[\w.@]*)=([^\s']*)")
    settings = [(page, *match) for page, span in spans for match in pair.findall(span)]
    assert len(settings) > 40
    assert [s for s in settings if refused(s[1], s[2], of_groups, keys)] == []
