"""Molecules drawn by RDKit, as SVG for the page."""

from __future__ import annotations

from functools import partial
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from data.molecules.smiles import parse_smiles
from data.processes.parsing import Lost, each
from experiments.pages.formatting import escape
from experiments.pages.style import inline_svg


def drawing(smiles: str, name: str, *, width: int = 230, height: int = 145) -> str:
    """A molecule as an `<svg>` element, or a box that says that it cannot be drawn.

    Args:
        smiles: of the molecule; need not be valid.
        name: unique on the page.
        width, height: pixels of the view box.
    """
    [drawn] = each(partial(_drawn, width=width, height=height), [smiles])
    if drawn is None or isinstance(drawn, Lost):
        return f'<div class="undrawn">RDKit cannot read<br><code>{escape(smiles)}</code></div>'
    return inline_svg(drawn, name, f"Structure of {smiles}")


def _drawn(smiles: str, width: int, height: int) -> str | None:
    """The SVG, made where this is called."""
    molecule = _prepared(smiles)
    if molecule is None:
        return None
    canvas = rdMolDraw2D.MolDraw2DSVG(width, height)
    _options(canvas.drawOptions())
    canvas.DrawMolecule(molecule)
    canvas.FinishDrawing()
    return str(canvas.GetDrawingText())


def _prepared(smiles: str) -> Chem.Mol | None:
    with rdBase.BlockLogs():
        molecule = parse_smiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        return None
    rdDepictor.SetPreferCoordGen(False)
    rdDepictor.Compute2DCoords(molecule)
    rdDepictor.StraightenDepiction(molecule)
    return rdMolDraw2D.PrepareMolForDrawing(molecule, kekulize=True)


def _options(options: Any) -> None:
    options.clearBackground = True
    options.padding = 0.08
    options.bondLineWidth = 2
    options.fixedBondLength = 26
    options.minFontSize = 13
