"""Where compiled programs are kept, and which of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from surrogates.learning.devices import enable_compilation_cache

LEAST = "jax_persistent_cache_min_compile_time_secs"
FOLDER = "jax_compilation_cache_dir"


@pytest.fixture(autouse=True)
def settings_of_the_tests() -> Iterator[None]:
    """Afterwards the settings are those that the other tests run with."""
    before = {name: getattr(jax.config, name) for name in (LEAST, FOLDER)}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_environment_decides_which_programs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEAST.upper(), raising=False)
    assert enable_compilation_cache(tmp_path / "cache") == tmp_path / "cache"
    assert getattr(jax.config, FOLDER) == str(tmp_path / "cache")
    assert getattr(jax.config, LEAST) == 0.1
    jax.config.update(LEAST, 0.03)
    monkeypatch.setenv(LEAST.upper(), "0.03")
    enable_compilation_cache(tmp_path / "cache")
    assert getattr(jax.config, LEAST) == 0.03
