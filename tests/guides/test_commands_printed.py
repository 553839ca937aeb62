"""Blocks of the pages name the command in one way, that of the environment that `make dev` makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from guide_lines import ROOT

from experiments.cli import COMMANDS, STAGES

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BARE = re.compile(rf"(?<!\.venv/bin/)\bunderstudy (?:{'|'.join([*STAGES, *COMMANDS])})\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_command_is_that_of_the_environment(page: Path) -> None:
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
        lines = [line for line in block.splitlines() if BARE.search(line.partition("  #")[0])]
        assert not lines, lines
