"""Tables of function objects, in the forms in which releases of OpenFOAM write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import InputError
from simulators.fluids.openfoam.function_objects import FunctionValue, column_of

COEFFICIENTS = (
    "# Force coefficients\n# liftDir : (0 1 0)\n# Time\tCd\tCl\tCmPitch\n1\t2.0\t-0.5\t0.1\n2\t3.0\t-0.6\t0.1\n"
)
#: Release, object, file -> content, column, last value.
TABLES = {
    "coefficients with tabs": ("c/0/coefficient.dat", COEFFICIENTS, "Cd", 3.0),
    "a column in other capitals": ("c/0/forceCoeffs.dat", COEFFICIENTS, "cmpitch", 0.1),
    "vectors in parentheses under their names": (
        "f/0/force.dat",
        "# Time (total_x total_y total_z) (pressure_x pressure_y pressure_z)\n0.5 (1 2 3) (4 5 6)\n",
        "pressure_y",
        5.0,
    ),
    "forces in nested parentheses": (
        "f/0/forces.dat",
        "# CofR : (0 0 0)\n# Time forces(pressure viscous) moment(pressure viscous)\n"
        "1 ((1 2 3) (4 5 6)) ((7 8 9) (10 11 12))\n",
        "forces_viscous_x",
        4.0,
    ),
    "an average with parentheses in its name": (
        "s/0/surfaceFieldValue.dat",
        "# Region type : patch inlet\n# Faces : 3\n# Time areaAverage(p) sum(phi)\n10 7.5 -1\n",
        "sum(phi)",
        -1.0,
    ),
    "a vector under one name": (
        "s/0/surfaceFieldValue.dat",
        "# Time areaAverage(U)\n1 (1 2 3)\n",
        "areaAverage(U)_z",
        3.0,
    ),
    "probes with places": (
        "p/0/p",
        "# Probe 0 (0.1 0 0)\n# Probe 1 (0.2 0 0)\n#     Probe    0    1\n#      Time\n0.1 1 2\n0.2 3 4\n",
        "1",
        4.0,
    ),
    "probes of vectors": (
        "p/0/U",
        "# Probe 0 (0.1 0 0)\n# Probe 1 (0.2 0 0)\n# Time\n0.1 (1 2 3) (4 5 6)\n",
        "1_y",
        5.0,
    ),
}


def write(case: Path, place: str, text: str) -> None:
    path = case / "postProcessing" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("kind", TABLES)
def test_a_column_of_each_form_is_found(kind: str, tmp_path: Path) -> None:
    place, text, column, value = TABLES[kind]
    write(tmp_path, place, text)
    assert FunctionValue(place[0], column, "1").read(tmp_path) == value


def test_runs_that_go_on_are_joined_and_replace_what_they_repeat(tmp_path: Path) -> None:
    head = "# Time Cd\n"
    write(tmp_path, "c/0/coefficient.dat", f"{head}1 10\n2 20\n3 30\n")
    write(tmp_path, "c/0/coefficient_2.dat", f"{head}3 31\n4 41\n")
    write(tmp_path, "c/10/coefficient.dat", f"{head}11 5\n12 7\n")
    times, values = column_of(tmp_path, "c", "Cd")
    assert times.tolist() == [1, 2, 3, 4, 11, 12]
    assert values.tolist() == [10, 20, 31, 41, 5, 7]
    # Folders are compared as numbers: 10 is later than 2.
    write(tmp_path, "c/2/coefficient.dat", f"{head}3 99\n")
    assert FunctionValue("c", "Cd", "1").read(tmp_path) == 7
    assert FunctionValue("c", "Cd", "1", after=11).read(tmp_path) == 6
    write(tmp_path, "d/0/surfaceFieldValue.dat", "# Time areaAverage(p) Cd\n1 4 2\n")
    assert FunctionValue("c", "Cd", "1", minus="d").read(tmp_path) == 5
    assert FunctionValue("c", "Cd", "1", minus="d:areaAverage(p)").read(tmp_path) == 3


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("# Time Cd\n1 2\n", FunctionValue("x", "Cd", "1"), "no function object 'x'.*; c did"),
        ("# Time Cd\n1 2\n", FunctionValue("c", "Cl", "1"), "no column 'Cl'.*It has Cd"),
        ("# Time Cd\n1 2\n2\n", FunctionValue("c", "Cd", "1"), "coefficient.dat:3.*cut short"),
        ("# Time Cd\n1 2\n2 N/A\n", FunctionValue("c", "Cd", "1"), "coefficient.dat:3.*no row of numbers"),
        ("# Time Cd\n", FunctionValue("c", "Cd", "1"), "no rows"),
        ("# Time Cd\n1 2\n", FunctionValue("c", "Cd", "1", after=3.0), "ends at time 1, before 3"),
        ("# Time Cd Cl\n1 2\n", FunctionValue("c", "Cd", "1"), "3 names of columns above rows of 2"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, value: FunctionValue, message: str, tmp_path: Path) -> None:
    write(tmp_path, "c/0/coefficient.dat", text)
    with pytest.raises(InputError, match=message):
        value.read(tmp_path)


def test_a_column_of_two_tables_asks_for_the_table(tmp_path: Path) -> None:
    for name in ("force", "moment"):
        write(tmp_path, f"f/0/{name}.dat", "# Time (total_x total_y total_z)\n1 (1 2 3)\n")
    with pytest.raises(InputError, match=r"force and moment have a column 'total_x'.*file: force"):
        FunctionValue("f", "total_x", "N").read(tmp_path)
    assert FunctionValue("f", "total_x", "N", file="force").read(tmp_path) == 1
