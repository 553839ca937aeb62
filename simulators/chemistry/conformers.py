"""Geometries from SMILES: the lowest of n conformers that RDKit's ETKDGv3 embeds and MMFF94 relaxes.

Wang, Witek, Landrum, Riniker, J. Chem. Inf. Model. 2020, 60, 2044 (ETKDGv3); Halgren, J. Comput. Chem. 1996,
17, 490 (MMFF94). UFF (Rappe et al. 1992) relaxes molecules with atoms for which MMFF94 has no parameters. Fragments of
a salt or a solvate are placed beside each other (`fragments`) and interact in the force field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from data.errors import InputError
from data.molecules.featurise import reject_reason
from data.molecules.smiles import parse_smiles, text_refusal
from data.processes.parsing import Lane, Lost, RowLimits, each
from data.spec import SimulationError
from simulators.chemistry.fragments import embed_apart, refuse_contacts
from simulators.chemistry.standardise import apply_steps, check_steps
from simulators.chemistry.variables import Geometry

#: Limit of processor time for one geometry outside of a campaign, s.
EMBEDDING_SECONDS = 600.0


@dataclass(frozen=True)
class ConformerConfig:
    """How geometries are made.

    Attributes:
        n_conformers: number of conformers that are embedded and relaxed; the one of lowest energy is kept.
        seed: seed of the embedding; the same SMILES and seed give the same geometry.
        max_iterations: largest number of iterations of the force-field relaxation.
        standardise: steps of `standardise.STEPS` that are applied first: "largest_fragment", "neutral", "tautomer";
            none by default, so that a salt is simulated as a salt.

    Raises:
        ValueError: a count is below 1, the seed below 0, or a step unknown.
    """

    n_conformers: int = 1
    seed: int = 0
    max_iterations: int = 1000
    standardise: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "standardise", tuple(self.standardise))
        check_steps(self.standardise)
        if self.n_conformers < 1 or self.max_iterations < 1:
            raise ValueError("n_conformers and max_iterations must be 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")


@dataclass(frozen=True)
class Conformer:
    """A geometry and facts about its generation.

    Attributes:
        geometry: the lowest conformer; its spin is the number of radical electrons in the SMILES.
        facts: force field, its energy in kcal/mol, number of conformers, whether the relaxation converged and, if they
            exist, the number of fragments and the SMILES of the standard form.
    """

    geometry: Geometry
    facts: dict[str, Any]


def embed(smiles: str, config: ConformerConfig) -> Conformer:
    """The lowest conformer of a molecule.

    Raises:
        SimulationError: `invalid_input` if the SMILES cannot be read; `not_converged` if no geometry fits
            its bonds and stereochemistry, or two atoms of it lie on top of each other.
    """
    with rdBase.BlockLogs():
        molecule = parse_smiles(smiles)
        if molecule is None or not molecule.GetNumAtoms() or "*" in smiles:
            raise SimulationError("invalid_input", f"{smiles!r}: {reject_reason(smiles)}")
        standard: dict[str, Any] = {}
        if config.standardise:
            molecule = apply_steps(molecule, config.standardise)
            standard = {"standardised": list(config.standardise), "simulated_smiles": Chem.MolToSmiles(molecule)}
        charge = Chem.GetFormalCharge(molecule)
        spin = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
        # Atom map numbers are only labels, but would change the canonical order of atoms.
        for atom in molecule.GetAtoms():
            atom.SetAtomMapNum(0)
        # The canonical order of atoms gives equal molecules equal geometries, independent of the SMILES.
        molecule = Chem.AddHs(Chem.MolFromSmiles(Chem.MolToSmiles(molecule)))
        geometry, facts = _lowest(molecule, smiles, charge, spin, config)
        refuse_contacts(geometry.numbers, geometry.positions, smiles)
        return Conformer(geometry, {**facts, **standard})


def embed_foreign(smiles: str, config: ConformerConfig) -> Geometry:
    """The geometry of `embed`, computed in another process, which a crash or a hang of RDKit cannot harm.

    Raises:
        InputError: no geometry could be generated.
    """
    reason = text_refusal(smiles)
    if reason is None:
        lane = Lane(RowLimits(EMBEDDING_SECONDS), modules=(__name__,))
        try:
            [outcome] = each(partial(_geometry, config=config), [smiles], lane=lane)
        finally:
            lane.stop()
        if isinstance(outcome, Geometry):
            return outcome
        reason = outcome.reason if isinstance(outcome, Lost) else outcome
    raise InputError(reason, where="start", remedy="Name a molecule of which RDKit makes a geometry")


def embed_each(smiles: Sequence[str], config: ConformerConfig) -> list[Geometry | str]:
    """The geometry of `embed` for each molecule, or why there is none, computed as by `embed_foreign`."""
    lane = Lane(RowLimits(EMBEDDING_SECONDS), modules=(__name__,))
    try:
        outcomes = each(partial(_geometry, config=config), smiles, lane=lane)
    finally:
        lane.stop()
    return [outcome.reason if isinstance(outcome, Lost) else outcome for outcome in outcomes]


def _geometry(smiles: str, config: ConformerConfig) -> Geometry | str:
    try:
        return embed(smiles, config).geometry
    except SimulationError as error:
        return error.message


def _lowest(
    molecule: Chem.Mol, smiles: str, charge: int, spin: int, config: ConformerConfig
) -> tuple[Geometry, dict[str, Any]]:
    parameters: Any = rdDistGeom.ETKDGv3()
    # RDKit treats the seeds 0 and 1 alike, and -1 means no seed.
    parameters.randomSeed = config.seed + 1
    fragments = len(Chem.GetMolFrags(molecule))
    if fragments > 1:
        conformers = embed_apart(molecule, config.n_conformers, parameters, smiles)
    else:
        conformers = list(rdDistGeom.EmbedMultipleConfs(molecule, config.n_conformers, parameters))
    random_coordinates = not conformers
    if not conformers:
        # Distance geometry from random coordinates is slower, but succeeds for cages and strained rings.
        parameters.useRandomCoords = True
        conformers = list(rdDistGeom.EmbedMultipleConfs(molecule, config.n_conformers, parameters))
    if not conformers:
        raise SimulationError("not_converged", f"{smiles!r}: ETKDGv3 finds no geometry for it")
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.int32)
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        field = "MMFF94"
        outcome = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
            molecule, numThreads=1, maxIters=config.max_iterations, ignoreInterfragInteractions=False
        )
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        field = "UFF"
        outcome = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(
            molecule, numThreads=1, maxIters=config.max_iterations, ignoreInterfragInteractions=False
        )
    else:
        field, outcome = "none", [(0, 0.0)] * len(conformers)
    best = min(range(len(conformers)), key=lambda i: (outcome[i][1], i))
    positions = np.asarray(molecule.GetConformer(conformers[best]).GetPositions(), np.float64)
    facts = {
        "force_field": field,
        "force_field_energy_kcal_mol": float(outcome[best][1]),
        "conformers": len(conformers),
        "relaxed": outcome[best][0] == 0 and field != "none",
        "random_coordinates": random_coordinates,
    }
    if fragments > 1:
        facts["fragments"] = fragments
    return Geometry(numbers, positions, charge, spin), facts


def method() -> dict[str, str]:
    """Methods and versions on which the geometries depend besides `ConformerConfig`."""
    return {
        "embedding": "ETKDGv3, fragments apart",
        "force_field": "MMFF94, else UFF",
        "version": f"rdkit {version('rdkit')}",
    }
