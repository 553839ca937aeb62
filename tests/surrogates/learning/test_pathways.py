"""Pathways is prepared where the environment names its proxy, and nowhere else."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from data.errors import InputError
from surrogates.learning.pathways import initialise_pathways
from surrogates.learning.processes import DeviceConfig, initialise_distributed


@pytest.mark.parametrize(("platforms", "calls"), [("proxy", 1), ("proxy,cpu", 1), ("cpu", 0), ("", 0), ("myproxy", 0)])
def test_pathwaysutils_is_initialised_where_the_proxy_is_named(
    platforms: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    module = ModuleType("pathwaysutils")
    module.initialize = lambda: called.append(1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pathwaysutils", module)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    initialise_pathways()
    assert len(called) == calls


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pathwaysutils", None)
    monkeypatch.setenv("JAX_PLATFORMS", "proxy")
    with pytest.raises(InputError, match="pathwaysutils") as caught:
        initialise_pathways()
    assert "[pathways]" in str(caught.value.remedy)


def test_several_processes_are_refused_under_pathways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "proxy")
    with pytest.raises(InputError, match="one process sees all devices"):
        initialise_distributed(DeviceConfig(distributed=True))
