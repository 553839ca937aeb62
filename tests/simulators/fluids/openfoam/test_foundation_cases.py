"""Cases of openfoam.org, release 11 and later: physicalProperties, momentumTransport, foamRun and functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import InputError
from data.spec import SimulationError
from simulators.fluids.openfoam.directory import Directory
from simulators.fluids.openfoam.programs import environment, program

HEADER = "FoamFile { format ascii; class dictionary; object x; }\n"
FIELD = "FoamFile {{ format ascii; class {kind}; object x; }}\ndimensions [{dimensions}];\n"
BOUNDARY = "boundaryField {{ inlet {{ type fixedValue; value uniform {value}; }} walls {{ type noSlip; }} }}\n"
FILES = {
    "system/controlDict": HEADER + "solver incompressibleFluid;\nstartFrom startTime;\nstartTime 0;\nendTime 100;\n",
    "system/functions": HEADER + "#includeFunc residuals(p, U)\n#includeFunc patchAverage(patch=inlet, fields=(p))\n",
    "system/fvSolution": HEADER + "SIMPLE { residualControl { p 1e-5; U 1e-5; } }\n",
    "constant/physicalProperties": HEADER + "viscosityModel constant;\nnu {{nu}} [m^2/s];\n",
    "constant/momentumTransport": HEADER + "simulationType laminar;\n",
    "0/U": FIELD.format(kind="volVectorField", dimensions="velocity")
    + "internalField uniform ({{speed}} 0 0);\n" + BOUNDARY.format(value="({{speed}} 0 0)"),
    "0/p": FIELD.format(kind="volScalarField", dimensions="kinematicPressure")
    + "internalField uniform 0;\n" + BOUNDARY.format(value="0"),
}  # fmt: skip


def case(folder: Path, **other: str) -> Directory:
    for name, content in {**FILES, **other}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return Directory(
        str(folder), {"nu": "m2 s-1", "speed": "m s-1"}, ("blockMesh", "foamRun -solver incompressibleFluid"),
        ("U", "p"), mesh=("x", "y"),
    )  # fmt: skip


def test_its_files_parameters_and_named_dimensions_are_read(tmp_path: Path) -> None:
    directory = case(tmp_path)
    units = {variable.name: variable.units for variable in directory.outputs}
    assert (units["U"], units["p"]) == ("m s-1", "m2 s-2")
    assert directory.commands[1] == ("foamRun", "-solver", "incompressibleFluid")
    assert directory.template.placeholders["nu"] == "constant/physicalProperties:3"
    assert directory.cells is not None
    assert directory.cells.patches == ("inlet", "walls")


@pytest.mark.parametrize("code", ['#calcInclude "a.H"', "f { type coded; }", 'f { libs ("$FOAM_CASE/a.so"); }'])
def test_code_in_its_functions_is_refused(code: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="system/functions:2"):
        case(tmp_path, **{"system/functions": HEADER + code + "\n"})


def test_a_missing_foam_run_names_the_release_that_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulationError, match=r"foamRun is not on the PATH.*release 11.*simpleFoam"):
        program("foamRun")


def test_its_installation_is_found_without_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "openfoam11" / "platforms" / "linux64" / "bin" / "blockMesh"
    for path in (tool, tmp_path / "openfoam11" / "etc" / "controlDict"):
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    monkeypatch.delenv("WM_PROJECT_DIR", raising=False)
    assert environment(None)["WM_PROJECT_DIR"] == str(tmp_path / "openfoam11")
