"""An evaluation compares a surrogate by the study of its kind, and says what is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data.errors import InputError
from experiments.stages.evaluate import STUDIES, EvaluateSettings, refuse_other_studies
from experiments.stages.screen import SCREENS
from surrogates.family import FAMILIES


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_study_of_another_kind_is_refused_and_its_own_is_not(kind: str) -> None:
    family = FAMILIES[kind]
    assert set(STUDIES) <= set(EvaluateSettings.__dataclass_fields__)
    assert {f.study for f in FAMILIES.values()} == {*STUDIES, None}
    for name in STUDIES:
        if name == family.study:
            refuse_other_studies(family, [name], [])
            continue
        others = " or ".join(f.name for f in FAMILIES.values() if f.study == name)
        message = f"{name}: it compares surrogates of {others}, and this is one of {kind}. Leave it out"
        with pytest.raises(InputError, match=re.escape(message)):
            refuse_other_studies(family, [name], [Path("test.csv")])


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_evaluation_on_nothing_names_what_the_kind_is_scored_on(kind: str) -> None:
    where = "data.test" if "data.test" in FAMILIES[kind].task.EVALUATED_WITH else "forecasts"
    with pytest.raises(InputError, match=f"^{where}: "):
        refuse_other_studies(FAMILIES[kind], [], [])


def test_every_kind_of_candidates_has_a_screen() -> None:
    assert {family.candidates for family in FAMILIES.values()} == {*SCREENS, None}
