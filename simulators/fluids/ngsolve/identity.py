"""What identifies labels of NGSolve: its installed version and the settings of the simulator."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from data.extras import install_command
from data.spec import SimulationError, content_hash

INSTALL = f"Install it with `{install_command('ngsolve')}`"


class NGSolveIdentity(ABC):
    """The provenance and fingerprint of a simulator of NGSolve that is a dataclass of its settings."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the simulator, with the orders of its elements."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Program, version and settings; raises SimulationError `missing_component` if NGSolve is not installed."""
        settings = json.loads(json.dumps(asdict(self)))  # type: ignore[call-overload]
        return {"simulator": self.name, "version": f"ngsolve {ngsolve_version()}", "settings": settings}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)


def check_that_it_is_installed() -> None:
    """Raise SimulationError `missing_component` if NGSolve cannot be loaded."""
    try:
        import ngsolve  # noqa: F401
    except ImportError as error:
        raise SimulationError("missing_component", f"NGSolve cannot be loaded: {error}. {INSTALL}") from error


def ngsolve_version() -> str:
    """Version of the installed NGSolve; raises SimulationError `missing_component` if there is none."""
    try:
        return version("ngsolve")
    except PackageNotFoundError as error:
        raise SimulationError("missing_component", f"NGSolve is not installed. {INSTALL}") from error
