"""Runs OpenFOAM's programs as subprocesses: location, environment, time limit, and diagnosis of failures."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.spec import SimulationError
from simulators.workers.guarded_program import Ended
from simulators.workers.programs import PRINTED, run_program
from simulators.workers.scratch import scratch

REMEDY = "OpenFOAM comes with `make openfoam` or `apt-get install openfoam`"
#: Programs that openfoam.org has renamed (release 11), which are run where the old name does not exist.
RENAMED = {"postProcess": "foamPostProcess"}
#: Programs that openfoam.org alone has, since release 11; the package above is of openfoam.com.
FOUNDATION = frozenset({"foamRun", "foamMultiRun", "foamPostProcess", "foamSetupCHT"})
#: Time limit for a program to print its version, s.
START_S = 60.0
#: Number of last log lines in the record of a failure.
TAIL = 25
#: Settings that OpenFOAM reads from the home directory before those of the case; they forbid system calls and code.
SAFETY = """FoamFile { version 2.0; format ascii; class dictionary; object controlDict; }
InfoSwitches { allowSystemOperations 0; }
"""

_FATAL = re.compile(r"FOAM FATAL (?:IO )?ERROR[^\n]*\n(.*?)(?:\n\s*From |\nFOAM |\Z)", re.S)
_STACK = re.compile(r"^#\d+ ")


def program(name: str) -> Path:
    """Path of a program of OpenFOAM.

    Raises:
        SimulationError: `missing_component`, naming the command that installs it.
    """
    path = shutil.which(name) or shutil.which(RENAMED.get(name, name))
    if path is None:
        if name in FOUNDATION:
            remedy = (
                "it comes with release 11 and later of openfoam.org, whose etc/bashrc puts it there; other releases "
                "have a program for each solver, such as simpleFoam or pisoFoam for incompressibleFluid"
            )
            raise SimulationError("missing_component", f"{name} is not on the PATH: {remedy}")
        raise SimulationError("missing_component", f"{name} is not on the PATH: {REMEDY}")
    return Path(path)


def version() -> str:
    """Release and patch of the installed OpenFOAM, such as "OpenFOAM 1912 (patch 200626)".

    Raises:
        SimulationError: `missing_component`: it is not installed, or does not start.
    """
    tool = program("blockMesh")
    with scratch() as folder:
        log = folder / "log"
        ended = run_program([str(tool), "-help"], folder, environment(None), log, time.monotonic() + START_S)
        said = log.read_text(errors="replace")
    if ended is None or ended.code != 0:
        how = f"not done in {START_S:g} s" if ended is None else ended.how
        raise SimulationError("missing_component", f"{tool} does not start ({how}): {REMEDY}")
    release = re.search(r"Using: OpenFOAM-(\S*) *(?:\(([\w.]+)\))?", said)
    if release is None:
        raise SimulationError("missing_component", f"{tool} -help names no version of OpenFOAM: {REMEDY}")
    patch = re.search(r"Build:.*?patch=(\w+)", said)
    # Debian leaves the first empty; the Foundation's releases have no number in the second.
    return f"OpenFOAM {release[1] or release[2]}" + (f" (patch {patch[1]})" if patch else "")


def environment(home: Path | None) -> dict[str, str]:
    """Environment in which the programs find the files of OpenFOAM but no settings of the user.

    Args:
        home: replacement for the home directory, so that a user's `~/.OpenFOAM` does not change answers.

    Raises:
        SimulationError: `missing_component`: the folder `etc` of OpenFOAM does not exist.
    """
    kept = {k: v for k, v in os.environ.items() if k not in ("FOAM_CONTROLDICT", "FOAM_ABORT", "FOAM_SETNAN")}
    tool = program("blockMesh").resolve()
    places = [Path(kept["WM_PROJECT_DIR"])] if "WM_PROJECT_DIR" in kept else []
    # Builds of openfoam.org and openfoam.com keep programs in platforms/<name>/bin, and etc above them.
    places += [tool.parent.parent / "share" / "openfoam", *list(tool.parents)[1:4], Path("/usr/share/openfoam")]
    for place in places:
        if (place / "etc" / "controlDict").is_file():
            break
    else:
        raise SimulationError(
            "missing_component", f"etc/controlDict of OpenFOAM is in none of {[str(p) for p in places]}: {REMEDY}"
        )
    kept |= {"WM_PROJECT_DIR": str(place), "FOAM_SIGFPE": "true", "LC_ALL": "C"}
    if home is not None:
        kept["HOME"] = str(home)
        (home / ".OpenFOAM").mkdir(parents=True, exist_ok=True)
        (home / ".OpenFOAM" / "controlDict").write_text(SAFETY)
    return kept


def run(command: Sequence[str], folder: Path, env: Mapping[str, str], deadline: float, limit_s: float) -> str:
    """Run one command in a case to its end.

    Args:
        command: program and arguments; a program with a slash in its name is a file of the case.
        folder: folder of the case; `log.<program>` is written there.
        env: environment of the process.
        deadline: time on the clock of `time.monotonic` at which the program is killed, s.
        limit_s: time limit from which the deadline was computed, for the message, s.

    Returns:
        The output of the program.

    Raises:
        SimulationError: `missing_component`, `timeout`, `out_of_memory` or `crashed`.
    """
    name = command[0]
    if "/" in name:
        path = (folder / name).resolve()
        if not path.is_file() or not path.is_relative_to(folder.resolve()):
            raise SimulationError("invalid_input", f"the command {name} is not a file of the case")
        path.chmod(path.stat().st_mode | 0o100)
    else:
        path = program(name)
    log = folder / f"log.{path.name}"
    ended = run_program([str(path), *command[1:]], folder, env, log, deadline)
    if ended is None:
        raise SimulationError(
            "timeout", f"{name} was not done {limit_s:g} s after the case began; killed", _details(command, log)
        )
    if ended.over:
        raise SimulationError(
            "crashed", f"{name} printed more than {PRINTED / 1e6:,.0f} MB; killed", _details(command, log)
        )
    said = log.read_text(errors="replace")
    if ended.code != 0 or "FOAM FATAL" in said:
        raise _failure(command, ended, said, log)
    return said


def _failure(command: Sequence[str], ended: Ended, said: str, log: Path) -> SimulationError:
    """Diagnose a failed program from its log, in one line."""
    name, details = command[0], _details(command, log) | {"returncode": ended.code}
    if "std::bad_alloc" in said or "cannot allocate memory" in said.lower():
        return SimulationError("out_of_memory", f"{name} could not allocate memory", details)
    fatal = _FATAL.search(said)
    if fatal is not None:
        text = " ".join(fatal[1].replace(f"{log.parent}/", "").split())
        return SimulationError("crashed", f"{name}: {text[:300]}", details)
    if "sigFpe" in said or ended.code == -signal.SIGFPE:
        reached = re.findall(r"^Time = (\S+)", said, re.M)
        when = f" at time {reached[-1]}" if reached else ""
        return SimulationError("crashed", f"{name}: floating point exception{when}: the solution diverged", details)
    how = ended.how if ended.code is None or ended.code >= 0 else f"killed by {ended.how}"
    return SimulationError("crashed", f"{name}: {how}", details)


def _details(command: Sequence[str], log: Path) -> dict[str, Any]:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip() and not _STACK.match(line)]
    return {"command": " ".join(command), "log": lines[-TAIL:]}
