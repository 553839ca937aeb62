"""The YAML of each operator network names settings that exist, and all of them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import experiments.conf
from data.settings import build
from surrogates.fields.facts import FieldSettings
from surrogates.fields.loss import FieldLossSettings
from surrogates.fields.networks.architectures import ARCHITECTURES

CONF = Path(str(experiments.conf.__file__)).parent
FILES = ("fno", "tfno", "ffno", "unet", "dilated_resnet", "transolver", "deeponet", "corrector")


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_every_setting(name: str) -> None:
    node = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    assert isinstance(node, dict)
    config = ARCHITECTURES.read(node["network"])
    settings, _ = ARCHITECTURES[node["network"]["architecture"]]
    assert isinstance(config, settings)
    assert {f.name for f in fields(settings)} == set(node["network"]) - {"architecture"}


def test_every_architecture_has_a_file() -> None:
    named = {OmegaConf.load(CONF / "model" / f"{name}.yaml").network.architecture for name in FILES}
    assert named == set(ARCHITECTURES)


def test_what_they_share_is_complete_and_as_the_code_has_it() -> None:
    common = OmegaConf.to_container(OmegaConf.load(CONF / "base" / "fields.yaml"))
    assert isinstance(common, dict)
    assert common.pop("kind") == "fields"
    assert build(FieldSettings, common, where="model") == FieldSettings()
    assert set(common) == {f.name for f in fields(FieldSettings)}
    assert set(common["loss"]) == {f.name for f in fields(FieldLossSettings)}
