"""Each kind of surrogate has one word, and surrogates that were saved under an earlier word are read as they were."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from saved_files import unpack

from benchmarks.faults.small_surrogates import MAKERS
from data.errors import InputError
from surrogates.abilities import PredictsTables, TakesFields
from surrogates.family import FAMILIES, RENAMED, family_of
from surrogates.potentials.dynamics.force_field import ForceField
from surrogates.saved import CARD, load_surrogate, read_card


@pytest.mark.parametrize("earlier", RENAMED)
def test_a_card_of_an_earlier_word_is_one_of_the_kind_and_is_saved_under_its_word(earlier: str, tmp_path: Path) -> None:
    kind = RENAMED[earlier]
    saved, _ = unpack(f"surrogates/{kind}", tmp_path / "saved")
    assert json.loads((saved / CARD).read_text())["kind"] == earlier
    assert read_card(saved)["kind"] == kind
    surrogate = load_surrogate(saved)
    assert type(surrogate) is FAMILIES[kind].surrogate
    surrogate.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / CARD).read_text())["kind"] == kind


def test_an_unknown_kind_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(json.dumps({"format": 1, "kind": "volumes"}))
    with pytest.raises(InputError, match=r"unknown kind of surrogate 'volumes'.*meshes"):
        load_surrogate(tmp_path)
    with pytest.raises(InputError, match=r"^model\.kind: no kind 'mehses' of surrogates\. Did you mean meshes"):
        family_of("mehses", where="model.kind")


def test_the_code_of_a_kind_imports_no_other_kind() -> None:
    # Of two kinds, one comes first in one of the two orders, and must not have imported the other.
    orders = list(FAMILIES), list(FAMILIES)[::-1]
    code = (
        "import sys\n"
        f"for order in {orders!r}:\n"
        "    for name in [m for m in sys.modules if m.split('.')[0] == 'surrogates']:\n"
        "        del sys.modules[name]\n"
        "    from surrogates.family import FAMILIES\n"
        "    for kind in order:\n"
        "        assert FAMILIES[kind].surrogate.__module__ == f'surrogates.{kind}.surrogate'\n"
        "        print(kind, *[k for k in FAMILIES if f'surrogates.{k}' in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [set(loaded) for _, *loaded in lines] == [set(o[: n + 1]) for o in orders for n in range(len(o))]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_kind_is_described_in_its_folder(kind: str) -> None:
    task = FAMILIES[kind].task
    assert kind == task.KIND
    assert task.__module__ == f"surrogates.{kind}.task"
    assert dataclasses.is_dataclass(task.DATA)


#: Kind -> its abilities.
ABILITIES = {
    "properties": {PredictsTables},
    "potentials": {ForceField},
    "fields": {TakesFields},
    "meshes": set(),
    "parameters": {PredictsTables},
    "forecasts": set(),
    "mixture": {ForceField},
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_surrogate_has_the_abilities_of_its_kind(kind: str) -> None:
    surrogate = MAKERS[kind]()
    assert {ability for ability in (PredictsTables, TakesFields, ForceField) if isinstance(surrogate, ability)} == (
        ABILITIES[kind]
    )
    # A screen asks the table for what it ranks, and those surrogates answer tables.
    assert (FAMILIES[kind].candidates is not None) == (PredictsTables in ABILITIES[kind])
