"""Files of surrogates, runs and stores that were edited end in an answer or in one line that names the file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faults.broken_files import broken_here
from benchmarks.faults.small_surrogates import MAKERS, asked
from benchmarks.faults.stored_files import STORED, unsealed
from data.errors import CorruptStoreError, InputError
from data.json_files import read_plain
from data.plain import PlainError, entry, from_plain
from surrogates.family import FAMILIES
from surrogates.learning.conformal import Conformal
from surrogates.properties.mpnn import MPNNConfig
from surrogates.saved import load_surrogate

#: How many of each are broken here; `faults` breaks as many as one likes.
FEW = {name: 5 if name.endswith("card") or name == "weights_note" else 20 for name in STORED}
#: Damage of these is noted on a page, which is written without what they hold.
NOTED = {"reading", "screen_settings", "screen_metrics", "learning_curve", "costs_page", "metrics_page", "evaluation"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", STORED)
def test_an_edited_file_ends_in_an_answer_or_one_line(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "data.checksums")
    tally = broken_here(STORED[name], tmp_path, FEW[name], seed=4)
    assert not tally.faults
    assert tally.outcomes["named"] or name in NOTED


def test_every_kind_of_surrogate_is_tried() -> None:
    assert set(MAKERS) == set(FAMILIES)


#: Kind -> (key of its card, value, what is said).
REFUSED: dict[str, list[tuple[str, Any, str]]] = {
    "properties": [
        ("facts.config.network.features", 10**9, r"must lie in \[1, 65536\]"),
        ("facts.config.network.features", 512, "does not describe the weights beside it"),
        ("facts.config.network.layers", -1, "config.network sizes must be at least 1"),
        ("facts.standardise.mean", [7.0, 1.0], "standardise must have equal lengths"),
        ("facts.standardise.scale", [0.0], "standardise scale must be above 0"),
        ("facts.buckets", [[10**9, 2]], "at most 65,536"),
        ("facts.domain.known", "%%%", r"domain.known"),
        ("facts.scores", {"test/mae": "0.2"}, r"scores.test/mae must be a number, got \"0.2\""),
        ("kind", "os.system", "unknown kind"),
        ("format", "1", "format must be a number of a version"),
    ],
    "fields": [
        ("facts.config.network.architecture", "mlp", r'network\.architecture must be one of fno.* got "mlp"'),
        ("facts.config.network.widht", 3, r"network\.widht is no key of these: width"),
        ("facts.scale.state_std", [0.0], "state_std must be above 0"),
        ("facts.bands.floor", [[0.1], [0.1]], "facts.bands must have equal lengths"),
        ("facts.layout.output.dtype", "object", "u has no dtype of NumPy"),
    ],
    "potentials": [
        ("facts.active", "other", "no head 'other'"),
        ("facts.heads.main.references.elements", [1, 500], "must be atomic numbers"),
        ("facts.scale", True, "facts.scale must be a number, got true"),
        ("last_layer", "no", "last_layer must be true or false"),
    ],
    "parameters": [("facts.domain.low", [1.0], "facts.domain 3 columns have 1 lows"), ("facts", None, "facts must be")],
    "forecasts": [
        ("facts.scale.hours", [99], "hours must lie within 0 and 23"),
        ("facts.months", [13], "months within 1 and 12"),
    ],
    "meshes": [
        ("facts.layout.kinds", -3, "kinds must be 0 or more"),
        ("facts.scale.length", 0, "length must be above 0"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_card_says_wrong_is_named_with_its_key(kind: str, tmp_path: Path) -> None:
    STORED[f"{kind}_card"].make(tmp_path / "s", 0)
    path = tmp_path / "s" / "surrogate.json"
    whole = path.read_text()
    for key, value, said in REFUSED[kind]:
        card = json.loads(whole)
        holder: Any = card
        *outer, last = key.split(".")
        for step in outer:
            holder = holder[int(step) if isinstance(holder, list) else step]
        holder[last] = value
        path.write_text(json.dumps(card))
        with pytest.raises(InputError, match=said) as caught:
            load_surrogate(tmp_path / "s")
        assert str(caught.value).startswith(str(path)), key
        assert len(str(caught.value).splitlines()) == 1


def test_a_surrogate_without_checksums_answers_as_it_did(tmp_path: Path) -> None:
    surrogate = MAKERS["parameters"]()
    surrogate.save(tmp_path / "s")
    unsealed(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert again.fingerprint == surrogate.fingerprint
    for name, values in asked(surrogate, "parameters").items():
        assert np.array_equal(asked(again, "parameters")[name], values)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, True, "must be a whole number, got true"),
        (int, 1.0, "must be a whole number, got 1.0"),
        (int, 2**70, "got a number of many digits"),
        (float, float("inf"), "must be a finite number"),
        (str, "\ud800", "must be text"),
        (tuple[int, int], [1], "must have 2 entries, got 1"),
        (dict[str, list[int]], {"a": [1, "²"]}, r"a\.1 must be a whole number"),
        (Conformal, {"factor": 1, "alpha": 0.1, "floor": 0.0}, "n is missing"),
        (Conformal, {"factor": 1, "alpha": 2.0, "floor": 0.0, "n": 3}, "alpha must lie between 0 and 1"),
        (MPNNConfig, {"featurse": 3}, "featurse is no key of these: features"),
        (MPNNConfig, [], "must be an object"),
    ],
)
def test_a_value_of_another_type_is_named(kind: Any, value: Any, said: str) -> None:
    with pytest.raises(PlainError, match=said):
        from_plain(kind, value)


def test_whole_numbers_stay_what_they_are() -> None:
    assert json.dumps(from_plain(tuple[float, ...], [1, 2.5])) == "[1, 2.5]"
    assert entry({"a": None}, "a", dict[str, int] | None) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 10**5, b'{"a": NaN}', b'{"a": ' + b"9" * 5000 + b"}", b"3"])
def test_what_is_no_json_names_its_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CorruptStoreError, match=r"a\.json: .*Make it again"):
        read_plain(tmp_path / "a.json", dict[str, int], remedy="Make it again")
    with pytest.raises(CorruptStoreError, match=r"b\.json: is missing"):
        read_plain(tmp_path / "b.json", dict[str, int], remedy="Make it again")
