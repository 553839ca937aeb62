"""ADMET-AI: the numbers of its own package, facts of pharmacology, batches, refusals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr
from simulator_contract import assert_promises
from teachers import by_its_own_package, needs

from data.errors import InputError
from data.spec import SimulationError, dataset
from simulators.chemistry.from_smiles import SMILES
from simulators.chemistry.teachers.admet import ADMET, ENDPOINTS, PROBABILITIES
from simulators.chemistry.teachers.pretrained import MODELS
from simulators.workers.model_process import close_processes

installed = needs("admet_ai", MODELS / "admet_model.py")
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
CAFFEINE = "Cn1cnc2c1c(=O)n(C)c(=O)n2C"
ASTEMIZOLE = "COc1ccc(CCN2CCC(CC2)Nc2nc3ccccc3n2Cc2ccc(F)cc2)cc1"
MOLECULES = [ASPIRIN, CAFFEINE, ASTEMIZOLE, "CCCCCCCCCCCCCCCC", "CCO"]


@pytest.fixture(scope="module", autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    close_processes()


def asked(smiles: str) -> xr.Dataset:
    return dataset((SMILES,), {"smiles": smiles})


@installed
def test_it_keeps_its_promises() -> None:
    assert_promises(ADMET(), ADMET(("hERG",)), asked(ASPIRIN), asked("C("))


@installed
def test_a_batch_has_the_numbers_of_its_package_and_of_single_molecules() -> None:
    answers = ADMET().simulate_many([asked(smiles) for smiles in MOLECULES])
    peer = by_its_own_package("admet_ai", "admet_by_package.py", {})
    _, expected = peer.ask({}, {"smiles": np.array(MOLECULES, object)})
    peer.close()
    assert set(expected) == set(ENDPOINTS)
    for row, answer in enumerate(answers):
        assert not isinstance(answer, SimulationError)
        alone = ADMET(("hERG", "Solubility_AqSolDB")).simulate(asked(MOLECULES[row]))
        for name, values in expected.items():
            assert float(answer[name]) == pytest.approx(values[row], rel=1e-4, abs=1e-5)
            assert name not in PROBABILITIES or 0 <= float(answer[name]) <= 1
        for name in alone:
            assert float(alone[name]) == pytest.approx(float(answer[name]), rel=1e-4, abs=1e-5)


@installed
def test_known_drugs_are_told_apart() -> None:
    aspirin, caffeine, astemizole, hexadecane, ethanol = ADMET().simulate_many([asked(smiles) for smiles in MOLECULES])
    # Astemizole was withdrawn as it blocks hERG; caffeine acts in the brain; fat-soluble and miscible with water.
    assert float(astemizole["hERG"]) > 0.9 > 0.1 > float(aspirin["hERG"])
    assert float(caffeine["BBB_Martins"]) > 0.9
    assert float(hexadecane["Solubility_AqSolDB"]) < -5 < 0 < float(ethanol["Solubility_AqSolDB"])
    # Measured: -5.0 kcal/mol (FreeSolv).
    assert float(ethanol["HydrationFreeEnergy_FreeSolv"]) == pytest.approx(-5.0, abs=0.6)


@installed
def test_what_is_no_molecule_is_refused_alone() -> None:
    answers = ADMET(("hERG",)).simulate_many([asked(smiles) for smiles in (ASPIRIN, "C(", "", ASTEMIZOLE)])
    assert [isinstance(answer, SimulationError) for answer in answers] == [False, True, True, False]
    assert "RDKit reads no molecule from 'C('" in str(answers[1])
    assert float(answers[3]["hERG"]) > 0.9


@pytest.mark.parametrize("outputs", [("nothing",), (), ("hERG", "hERG")])
def test_settings_that_make_no_sense_are_refused(outputs: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"simulator\.outputs"):
        ADMET(outputs)
