"""ADMET-AI, ten networks of Chemprop for 41 endpoints of drugs, as a simulator of SMILES.

Swanson et al., Bioinformatics 2024, 40, btae416; the endpoints are those of the Therapeutics Data Commons (Huang et
al., arXiv:2102.09548). The weights and the code are those of the package admet-ai.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from data.spec import SimulationError, Spec, Variable, check
from simulators.chemistry.from_smiles import SMILES
from simulators.chemistry.teachers.pretrained import Pretrained, PretrainedSimulator
from simulators.chemistry.variables import answer, refuse_choice

#: Endpoints that are probabilities -> what is probable.
PROBABILITIES: Mapping[str, str] = {
    "AMES": "mutagenicity",
    "BBB_Martins": "passage of the blood-brain barrier",
    "Bioavailability_Ma": "oral bioavailability",
    "CYP1A2_Veith": "inhibition of CYP1A2",
    "CYP2C19_Veith": "inhibition of CYP2C19",
    "CYP2C9_Substrate_CarbonMangels": "being a substrate of CYP2C9",
    "CYP2C9_Veith": "inhibition of CYP2C9",
    "CYP2D6_Substrate_CarbonMangels": "being a substrate of CYP2D6",
    "CYP2D6_Veith": "inhibition of CYP2D6",
    "CYP3A4_Substrate_CarbonMangels": "being a substrate of CYP3A4",
    "CYP3A4_Veith": "inhibition of CYP3A4",
    "Carcinogens_Lagunin": "carcinogenicity",
    "ClinTox": "clinical toxicity",
    "DILI": "liver injury",
    "HIA_Hou": "intestinal absorption",
    "NR-AR-LBD": "activity at the androgen receptor, ligand-binding domain",
    "NR-AR": "activity at the androgen receptor",
    "NR-AhR": "activity at the aryl hydrocarbon receptor",
    "NR-Aromatase": "inhibition of aromatase",
    "NR-ER-LBD": "activity at the estrogen receptor, ligand-binding domain",
    "NR-ER": "activity at the estrogen receptor",
    "NR-PPAR-gamma": "activity at PPAR gamma",
    "PAMPA_NCATS": "permeability in PAMPA",
    "Pgp_Broccatelli": "inhibition of P-glycoprotein",
    "SR-ARE": "activity at the antioxidant response element",
    "SR-ATAD5": "activity of ATAD5",
    "SR-HSE": "activity at the heat shock element",
    "SR-MMP": "loss of mitochondrial membrane potential",
    "SR-p53": "activity of p53",
    "Skin_Reaction": "skin reaction",
    "hERG": "blocking of hERG",
}
#: Endpoints that are numbers -> unit and meaning, as the data that they learned from have them.
NUMBERS: Mapping[str, tuple[str, str]] = {
    "Caco2_Wang": ("log10(cm/s)", "permeability of Caco-2 cells"),
    "Clearance_Hepatocyte_AZ": ("uL/min/10^6 cells", "clearance by hepatocytes"),
    "Clearance_Microsome_AZ": ("uL/min/mg", "clearance by microsomes"),
    "Half_Life_Obach": ("h", "half-life"),
    "HydrationFreeEnergy_FreeSolv": ("kcal/mol", "free energy of hydration"),
    "LD50_Zhu": ("-log10(mol/kg)", "acute toxicity in rats (LD50)"),
    "Lipophilicity_AstraZeneca": ("1", "lipophilicity (log D)"),
    "PPBR_AZ": ("%", "share bound to plasma proteins"),
    "Solubility_AqSolDB": ("log10(mol/L)", "solubility in water"),
    "VDss_Lombardo": ("L/kg", "volume of distribution at steady state"),
}
ENDPOINTS: Mapping[str, Variable] = {
    **{n: Variable(n, (), "1", "float64", f"probability of {said}") for n, said in PROBABILITIES.items()},
    **{n: Variable(n, (), unit, "float64", said) for n, (unit, said) in NUMBERS.items()},
}
#: Largest number of molecules in a batch.
MOLECULES = 256
MODEL = Pretrained(
    package="admet_ai",
    module="admet_model",
    licence="MIT",
    level_of_theory="networks of measured data of the Therapeutics Data Commons",
    reference="doi:10.1093/bioinformatics/btae416",
)


@dataclass(frozen=True)
class ADMET(PretrainedSimulator):
    """ADMET-AI's endpoints of a molecule: the mean of five networks each.

    Attributes:
        outputs: names from `ENDPOINTS`; null for all of them.
    """

    outputs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        chosen = tuple(ENDPOINTS if self.outputs is None else self.outputs)
        refuse_choice(chosen, ENDPOINTS, "outputs")
        object.__setattr__(self, "outputs", chosen)

    @property
    def name(self) -> str:
        """`admet-ai`."""
        return "admet-ai"

    @cached_property
    def spec(self) -> Spec:
        """The input is a SMILES; the outputs are the chosen endpoints."""
        return Spec((SMILES,), tuple(ENDPOINTS[name] for name in self.outputs or ()))

    @property
    def provenance(self) -> dict[str, Any]:
        """Package, its version, hash of the weights, licence, origin of the labels and settings."""
        return MODEL.provenance(self.name, {"outputs": self.outputs})

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Molecules in batches; see `simulators.adapter.AnswersMany`."""
        results: dict[int, xr.Dataset | SimulationError] = {}
        smiles: dict[int, str] = {}
        for place, request in enumerate(inputs):
            try:
                check(request, self.spec.inputs)
                smiles[place] = str(request["smiles"].item())
            except SimulationError as error:
                results[place] = error
        places = list(smiles)
        for start in range(0, len(places), MOLECULES):
            results |= self._batch({place: smiles[place] for place in places[start : start + MOLECULES]})
        return [results[place] for place in range(len(inputs))]

    def _batch(self, smiles: dict[int, str]) -> dict[int, xr.Dataset | SimulationError]:
        try:
            said, values = MODEL.process({}).ask({}, {"smiles": np.array(list(smiles.values()), object)})
        except SimulationError as error:
            if len(smiles) == 1 or error.kind == "missing_component":
                return dict.fromkeys(smiles, error)
            # The process died or ran out of memory: one of them alone is to fail.
            return {place: self._batch({place: one})[place] for place, one in smiles.items()}
        results: dict[int, xr.Dataset | SimulationError] = {}
        row = 0
        for number, place in enumerate(smiles):
            if str(number) in said["failed"]:
                results[place] = SimulationError("invalid_input", said["failed"][str(number)])
                continue
            try:
                results[place] = answer(self.spec, {v.name: values[v.name][row] for v in self.spec.outputs})
            except SimulationError as error:
                results[place] = error
            row += 1
        return results
