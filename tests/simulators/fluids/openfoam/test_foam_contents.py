"""Binary and compressed files of OpenFOAM, compared with the same numbers as OpenFOAM writes them in ASCII."""

from __future__ import annotations

import gzip
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from simulators.fluids.openfoam.cases import CASES, CELL_CENTRES
from simulators.fluids.openfoam.contents import MAX_UNPACKED, unpacked
from simulators.fluids.openfoam.files import read_field
from simulators.fluids.openfoam.poly_mesh import read_poly_mesh
from simulators.fluids.openfoam.programs import environment, run
from simulators.fluids.openfoam.template import Template

VALUES = {"viscosity": 0.1, "pressure_drop": 1.0, "wall_velocity": 1.0, "cells": 8, "step": 0.1, "interval": 0.5}
MESH = Path("constant/polyMesh")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One flow between plates, written by OpenFOAM in ASCII, compressed ASCII and binary, and the last compressed."""
    if shutil.which("icoFoam") is None:
        pytest.skip("OpenFOAM is not installed: `make openfoam`")
    cases = {}
    for name, settings in (
        ("ascii", "writePrecision 17;"),
        ("compressed", "writePrecision 17; writeCompression on;"),
        ("binary", "writeFormat binary;"),
    ):
        case = tmp_path_factory.mktemp(name) / "case"
        template = Template.read(CASES / "channel")
        template.write(case, VALUES | {"end": 0.5})
        with (case / "system" / "controlDict").open("a") as control:
            control.write(settings)
        for command in (("blockMesh",), ("icoFoam",), CELL_CENTRES, ("postProcess", "-func", "writeCellVolumes")):
            run(command, case, environment(case.parent / "home"), time.monotonic() + 60, 60.0)
        cases[name] = case
    assert (cases["compressed"] / "0.5" / "U.gz").is_file()
    cases["both"] = shutil.copytree(cases["binary"], tmp_path_factory.mktemp("both") / "case")
    for path in (*(cases["both"] / MESH).iterdir(), *(p for p in (cases["both"] / "0.5").iterdir() if p.is_file())):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return cases


def test_a_field_is_the_same_in_each_form(written: dict[str, Path]) -> None:
    for name in ("U", "p", "phi", "C"):
        truth = read_field(written["ascii"] / "0.5" / name)
        assert len(truth.values) > 1
        for form in ("compressed", "binary", "both"):
            read = read_field(written[form] / "0.5" / name)
            assert (read.kind, read.units) == (truth.kind, truth.units)
            np.testing.assert_allclose(read.values, truth.values, rtol=1e-15, atol=1e-15)
            assert {k: v.shape for k, v in read.patches.items()} == {k: v.shape for k, v in truth.patches.items()}
            for patch, values in truth.patches.items():
                np.testing.assert_allclose(read.patches[patch], values, rtol=1e-15, atol=1e-15)
    same = read_field(written["both"] / "0.5" / "U.gz")
    assert np.array_equal(same.values, read_field(written["binary"] / "0.5" / "U").values)


def test_a_mesh_is_the_same_in_each_form_and_its_cells_are_those_of_openfoam(written: dict[str, Path]) -> None:
    truth = read_poly_mesh(written["ascii"] / MESH)
    assert (truth.cells, truth.patches["ceiling"].kind, truth.patches["ceiling"].count) == (32, "wall", 4)
    for form in ("compressed", "binary", "both"):
        mesh = read_poly_mesh(written[form] / MESH)
        assert mesh.patches == truth.patches
        for name in ("face_starts", "face_points", "owner", "neighbour"):
            assert np.array_equal(getattr(mesh, name), getattr(truth, name))
        np.testing.assert_allclose(mesh.cell_centres, read_field(written[form] / "0.5" / "C").values, atol=1e-14)
        np.testing.assert_allclose(mesh.cell_volumes, read_field(written[form] / "0.5" / "V").values[:, 0], rtol=1e-12)


def field_of(arch: str, values: bytes, count: int, item: str = "vector") -> bytes:
    head = f"FoamFile {{ format binary; class vol{item.title()}Field; {arch} }}\ndimensions [0 1 -1 0 0 0 0];\n"
    body = head + f"internalField nonuniform List<{item}> \n{count}\n("
    rest = ')\n;\nboundaryField { W\u00e4nde { value nonuniform List<vector> 0(); } "in.*" { value uniform (3 0 0); } }'
    return body.encode() + values + rest.encode()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("label", [32, 64])
@pytest.mark.parametrize("scalar", [32, 64])
def test_widths_and_order_are_those_of_the_header(
    tmp_path: Path, written: dict[str, Path], order: str, label: int, scalar: int
) -> None:
    arch = f'arch "{"LSB" if order == "<" else "MSB"};label={label};scalar={scalar}";'
    # The bytes of some numbers look like a list, a comment and the end of an entry.
    text = b'); List<vector> 3(/* "{ ;\n\0}//)'
    values = np.concatenate([np.frombuffer(text[:24], "f8"), np.linspace(-1, 1, 24)]).astype(f"{order}f{scalar // 8}")
    values[:2] = np.frombuffer(text[: values.itemsize * 2], values.dtype)
    (tmp_path / "U").write_bytes(field_of(arch, values.tobytes(), len(values) // 3))
    read = read_field(tmp_path / "U")
    assert np.array_equal(read.values.ravel(), values.astype(float))
    assert {name: v.tolist() for name, v in read.patches.items()} == {'"in.*"': [[3, 0, 0]]}

    truth = read_poly_mesh(written["binary"] / MESH)
    shutil.copy(written["binary"] / MESH / "boundary", tmp_path)
    for name, kind, lists in (
        ("points", "vectorField", (truth.points,)),
        ("faces", "faceCompactList", (truth.face_starts, truth.face_points)),
        ("owner", "labelList", (truth.owner,)),
        ("neighbour", "labelList", (truth.neighbour,)),
    ):
        dtype = f"{order}f{scalar // 8}" if name == "points" else f"{order}i{label // 8}"
        content = f'FoamFile {{ format binary; class {kind}; {arch} note "a }} b"; }}\n// * * //\n'.encode()
        for values in lists:
            content += f"\n{len(values)}\n(".encode() + values.astype(dtype).tobytes() + b")\n"
        (tmp_path / name).write_bytes(content + b"\n// ** //\n")
    mesh = read_poly_mesh(tmp_path)
    assert np.array_equal(mesh.points, truth.points.astype(f"f{scalar // 8}"))
    assert np.array_equal(mesh.face_points, truth.face_points)
    assert np.array_equal(mesh.neighbour, truth.neighbour)


def test_a_header_without_widths_is_read_where_only_one_fits(tmp_path: Path) -> None:
    values = np.arange(6.0) + 0.1
    for dtype in ("f4", "f8"):
        (tmp_path / "U").write_bytes(field_of("", values.astype(dtype).tobytes(), 2))
        np.testing.assert_array_equal(read_field(tmp_path / "U").values.ravel(), values.astype(dtype))
    closed = np.frombuffer(b");;;aaaa" * 6, "f8")
    (tmp_path / "U").write_bytes(field_of("", closed.tobytes(), 2))
    with pytest.raises(InputError, match="two fit"):
        read_field(tmp_path / "U")


def test_damaged_files_are_named(tmp_path: Path, written: dict[str, Path]) -> None:
    content = (written["binary"] / "0.5" / "U").read_bytes()
    packed = gzip.compress(content)
    for broken, message in (
        (content[:900], "does not end where its length says"),
        (content.replace(b"List<vector> \n32", b"List<vector> \n31"), "does not end where its length says"),
        (content.replace(b"List<vector>", b"List<label>", 1), "does not end where its length says"),
        (packed[:-20], "cut short"),
        (packed[:40] + b"xxxx" + packed[44:], "damaged"),
    ):
        (tmp_path / "U").write_bytes(broken)
        with pytest.raises(InputError, match=message):
            read_field(tmp_path / "U")
    with pytest.raises(InputError, match="when it is unpacked"):
        unpacked(tmp_path / "bomb.gz", gzip.compress(bytes(10**6)), 10**5)
    assert len(unpacked(tmp_path / "two.gz", gzip.compress(b"a") + gzip.compress(b"b"), MAX_UNPACKED)) == 2


def test_a_compressed_dictionary_of_a_case_is_checked_and_filled(tmp_path: Path) -> None:
    case = shutil.copytree(CASES / "channel", tmp_path / "case")
    plain = Template.read(case)
    path = case / "constant" / "transportProperties"
    path.with_name("transportProperties.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="lies beside the same file unpacked"):
        Template.read(case)
    path.unlink()
    assert Template.read(case).hash == plain.hash
    path.with_name("transportProperties.gz").write_bytes(gzip.compress(b"nu #calc 1;"))
    with pytest.raises(InputError, match="compiles or runs code"):
        Template.read(case)
