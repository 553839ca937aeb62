"""Each kind of surrogate has one word, and surrogates that were saved under an earlier word are read as they were."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults.small_surrogates import asked
from data.errors import InputError
from surrogates.family import FAMILIES, RENAMED
from surrogates.saved import load_surrogate, read_card

#: A surrogate of each kind, saved before kinds had their words of today, with their fingerprints and answers.
SAVED = Path(__file__).parent / "saved" / "before_one_word_a_kind.tar.xz"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    with tarfile.open(SAVED) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("earlier", RENAMED)
def test_a_surrogate_of_before_has_its_fingerprint_and_answers(earlier: str, saved: Path, tmp_path: Path) -> None:
    expected = json.loads((saved / "answers.json").read_text())[earlier]
    kind = RENAMED[earlier]
    assert json.loads((saved / earlier / "surrogate.json").read_text())["kind"] == earlier
    assert read_card(saved / earlier)["kind"] == kind
    surrogate = load_surrogate(saved / earlier)
    assert type(surrogate) is FAMILIES[kind].surrogate
    assert surrogate.fingerprint == expected["fingerprint"]
    answers = asked(surrogate, kind)
    assert set(expected["answers"]) <= set(answers)
    for name, values in expected["answers"].items():
        np.testing.assert_allclose(answers[name], np.array(values), rtol=1e-4, atol=1e-5, err_msg=name)
    # Saved again, it has the word of today, and is still the same surrogate.
    surrogate.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "surrogate.json").read_text())["kind"] == kind
    assert load_surrogate(tmp_path / "again").fingerprint == expected["fingerprint"]


def test_an_unknown_kind_is_refused_with_those_that_there_are(saved: Path, tmp_path: Path) -> None:
    card = json.loads((saved / "mesh" / "surrogate.json").read_text())
    (tmp_path / "surrogate.json").write_text(json.dumps({**card, "kind": "volumes"}))
    with pytest.raises(InputError, match=r"unknown kind of surrogate 'volumes'.*meshes"):
        load_surrogate(tmp_path)


@pytest.mark.parametrize("order", [list(FAMILIES), list(FAMILIES)[::-1]], ids=["forward", "backward"])
def test_the_code_of_a_kind_imports_no_other_kind(order: list[str]) -> None:
    # Of two kinds, one comes first in one of the two orders, and must not have imported the other.
    code = (
        "import sys; from surrogates.family import FAMILIES\n"
        f"for kind in {order!r}:\n"
        "    assert FAMILIES[kind].surrogate.__module__ == f'surrogates.{kind}.surrogate'\n"
        "    print(kind, *[k for k in FAMILIES if f'surrogates.{k}' in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [set(loaded) for _, *loaded in lines] == [set(order[: n + 1]) for n in range(len(order))]
