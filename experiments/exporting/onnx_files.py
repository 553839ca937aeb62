"""A property surrogate as files of ONNX with a card: in float32 and, with molecules to calibrate with, in 8 bits."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from data.checksums import sha256
from data.claim import claim
from data.errors import InputError
from data.files import remove_listed, write_bytes, write_json
from data.molecules.files import read
from data.molecules.foreign import encode
from data.terminal import show_pairs
from experiments.exporting.surrogate_programs import identity_of
from surrogates.properties.onnx_graph import OPSET, onnx_model
from surrogates.properties.quantised import batches_of, quantised
from surrogates.saved import load_surrogate, package_versions, read_card, surrogate_directory
from surrogates.stablehlo import CARD

#: Most molecules that scales of 8 bits are taken from.
CALIBRATION = 2_000


def export_onnx(name: str | None, out: Path, calibration: Path | None) -> None:
    """Write the networks of a surrogate of properties, for any number of molecules, atoms and bonds.

    Args:
        name: directory of the surrogate, or of the run that made it.
        out: directory of the files.
        calibration: table of molecules like those of the training, of which the first ones give the scales of 8 bits;
            None for float32 alone.

    Raises:
        InputError: the surrogate is of another kind, or cannot be exported; or the extra quantised is not installed.
    """
    directory = surrogate_directory(name, "surrogate")
    kind = read_card(directory)["kind"]
    if kind != "properties":
        raise InputError(f"a surrogate of {kind} has no graph of ONNX", where="format", remedy="Give format=stablehlo")
    surrogate: Any = load_surrogate(directory)
    models = {"float32": onnx_model(surrogate)}
    molecules = 0
    if calibration is not None:
        table, _ = encode([row.smiles for row in islice(read(calibration), CALIBRATION) if row.smiles])
        molecules = len(table)
        if not molecules:
            raise InputError("no molecule in it", where=str(calibration), remedy="Name a table with a column smiles")
        models["int8"] = quantised(models["float32"], [batch for _, batch in batches_of(surrogate, table)])
    files = []
    with claim(out, "export"):
        remove_listed(out / CARD)
        for precision, model in models.items():
            content = model.SerializeToString()
            write_bytes(out / f"networks-{precision}.onnx", content)
            files.append(
                {
                    "file": f"networks-{precision}.onnx",
                    "sha256": sha256(content),
                    "opset": OPSET,
                    "precision": {"arrays": "float32", "mixing_products": precision, "other_products": "float32"},
                    "calibration_molecules": molecules if precision == "int8" else 0,
                    "inputs": ["atoms", "bonds", "bond_atoms", "atom_counts"],
                    "outputs": ["members", "value", "std"],
                }
            )
        targets = {"targets": list(surrogate.targets), "units": dict(surrogate.facts.units)}
        card = {"format": 1, "versions": package_versions(), **identity_of(surrogate, directory), **targets}
        write_json(out / CARD, {**card, "programs": [], "onnx": files})
    show_pairs(
        "Export",
        {
            "files": ", ".join(str(one["file"]) for one in files),
            "size": f"{sum(len(m.SerializeToString()) for m in models.values()) / 1e6:,.2f} MB",
            "left out": "intervals and the domain",
            "directory": out,
        },
    )
