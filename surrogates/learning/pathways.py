"""Pathways: one process sees the devices of all hosts through a proxy, which the package pathwaysutils prepares.

A user sets `JAX_PLATFORMS=proxy` (or a list with `proxy` in it) and `JAX_BACKEND_TARGET`, the address of the proxy.
"""

from __future__ import annotations

import os

from data.errors import InputError
from data.extras import install_command


def names_pathways() -> bool:
    """Whether the environment names the proxy of Pathways as a platform of JAX."""
    return "proxy" in os.environ.get("JAX_PLATFORMS", "").lower().replace(" ", "").split(",")


def initialise_pathways() -> None:
    """Prepare JAX for the proxy if the environment names it; has to be called before any computation.

    Raises:
        InputError: pathwaysutils is not installed.
    """
    if not names_pathways():
        return
    try:
        import pathwaysutils
    except ImportError as error:
        raise InputError(
            "JAX_PLATFORMS names the proxy of Pathways, which needs the package pathwaysutils",
            where="JAX_PLATFORMS",
            remedy=f"Install it with `{install_command('pathways')}`",
        ) from error
    pathwaysutils.initialize()
