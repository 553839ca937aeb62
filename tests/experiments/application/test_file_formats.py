"""The page of file formats names what the readers and writers take, and keys that commands have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from command_settings import flat
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from data.errors import InputError
from data.fields.files import KINDS as ARRAY_KINDS
from data.fields.formats import NETCDF_SUFFIXES
from data.formats.headers import DELIMITERS
from data.formats.kinds import PARQUET_SUFFIXES, SDF_SUFFIXES, SMILES_SUFFIXES, STORE, XYZ_SUFFIXES
from data.formats.text_files import COMPRESSIONS
from data.formats.vtk_file import COLLECTION, GRIDS, MESHES
from data.structures.frame_files import READERS
from experiments.application.choices import CONF
from experiments.exporting.store_files import FRAMES, TABLES
from experiments.prediction.array_output import SUFFIXES as ARRAYS_WRITTEN
from experiments.prediction.frames import frame_kind
from experiments.prediction.molecule_output import SUFFIXES as MOLECULES_WRITTEN
from experiments.prediction.table_output import table_kind
from experiments.screening.candidate_sources import open_source
from simulators.atmosphere.reanalysis.sources import GRIB, NETCDF

TABLE_SUFFIXES = (*DELIMITERS, *PARQUET_SUFFIXES)
#: Heading of the page -> formats of its tables, in their order.
EXPECTED: dict[str, list[Iterable[str]]] = {
    "Tables of molecules": [(*TABLE_SUFFIXES, *SDF_SUFFIXES, STORE)],
    "Candidates and rows to predict": [(*SMILES_SUFFIXES, *TABLE_SUFFIXES, *SDF_SUFFIXES, "library")],
    "Predictions of molecules": [(*TABLE_SUFFIXES, *MOLECULES_WRITTEN)],
    "Frames of potentials": [READERS, (*XYZ_SUFFIXES, ".traj")],
    "Rows of numbers": [TABLE_SUFFIXES],
    "Fields on grids": [
        (STORE, ".zarr", *filter(None, NETCDF_SUFFIXES), *ARRAY_KINDS, *GRIDS, COLLECTION),
        ARRAYS_WRITTEN,
    ],
    "Flows on meshes and cells": [(STORE, *MESHES, COLLECTION), (".zarr", COLLECTION)],
    "Weather": [(".zarr", *NETCDF, *GRIB)],
    "Stores for other programs": [(*FRAMES, *TABLES, COLLECTION)],
}
#: Choices with which stages have the keys that the page names; a key may belong to any of them.
STAGES = {
    "train": ["data=properties", "data=potentials", "data=fields"],
    "predict": [""],
    "screen": [""],
    "windows": ["source=file"],
}


def sections(page: str) -> dict[str, str]:
    parts = re.split(r"^##+ (.*)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tables(section: str) -> list[set[str]]:
    """The formats in the first column of each table."""
    formats: list[set[str]] = []
    for block in re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE):
        rows = [line.split("|")[1] for line in block.splitlines()[2:]]
        formats.append({name for row in rows for name in re.findall(r"`([^`]+)`", row)})
    return formats


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "guides" / "file_formats.md").read_text(encoding="utf-8")


def test_the_page_lists_what_the_readers_and_writers_take(page: str) -> None:
    formats = sections(page)
    assert {heading: tables(formats[heading]) for heading in EXPECTED} == {
        heading: [set(formats) for formats in expected] for heading, expected in EXPECTED.items()
    }
    listed = {heading for heading, text in formats.items() if tables(text)}
    assert listed == set(EXPECTED)
    assert all(f"`{suffix}`" in page for suffix in COMPRESSIONS)


def test_the_formats_that_it_lists_are_taken_and_others_are_not(tmp_path: Path) -> None:
    for suffix in (*TABLE_SUFFIXES, *MOLECULES_WRITTEN):
        table_kind(tmp_path / f"out{suffix}", molecules=True)
    for suffix in (*XYZ_SUFFIXES, ".traj"):
        assert frame_kind(tmp_path / f"out{suffix}") == suffix
    (tmp_path / "in.mol2").write_text("C\n")
    for ask in (
        lambda: table_kind(tmp_path / "out.mol2", molecules=True),
        lambda: table_kind(tmp_path / "out.sdf"),
        lambda: frame_kind(tmp_path / "out.mol2"),
        lambda: open_source(tmp_path / "in.mol2", "smiles"),
    ):
        with pytest.raises(InputError):
            ask()
    for suffix in (*SMILES_SUFFIXES, *DELIMITERS):
        path = tmp_path / f"in{suffix}"
        path.write_text("smiles\nCCO\n")
        assert open_source(path, "smiles").description


def test_every_key_of_the_page_is_one_of_a_command(page: str) -> None:
    keys: set[str] = set()
    for stage, choices in STAGES.items():
        for choice in choices:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                plain = OmegaConf.to_container(compose(stage, [choice] if choice else []), resolve=False)
            keys |= set(dict(flat(plain, "")))
    named = {
        key
        for line in page.splitlines()
        if line.startswith("|")
        for key in re.findall(r"`([a-z_.]+)`", line.split("|")[3] if line.count("|") > 3 else "")
    }
    assert len(named) > 15
    assert named <= keys
