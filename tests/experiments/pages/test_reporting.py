"""The report page agrees with the files of the run, needs nothing else, and is written even if files are missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import InputError
from experiments.pages.page import SECTIONS, render, write_report
from experiments.pages.reproduce import command
from experiments.pages.run_files import load_run


class Page(HTMLParser):
    """Ids, references and open elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        if attributes.get("id"):
            self.ids.append(str(attributes["id"]))
        for name in ("href", "src", "xlink:href"):
            if attributes.get(name):
                self.links.append(str(attributes[name]))


@pytest.fixture(scope="module")
def page(synthetic_run: Path) -> str:
    return render(load_run(synthetic_run))


def test_the_page_has_every_section_and_none_failed(page: str) -> None:
    parsed = Page(page)
    for anchor, heading, _ in SECTIONS:
        assert anchor in parsed.ids
        assert heading.replace("'", "&#x27;") in page or heading in page
    assert "could not be shown" not in page
    assert parsed.tags.count("svg") > 10


def test_the_page_needs_no_network_and_runs_nothing(page: str) -> None:
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert len(parsed.ids) == len(set(parsed.ids))
    targets = {link[1:] for link in parsed.links if link.startswith("#")}
    assert targets <= set(parsed.ids)


def test_what_the_page_says_is_what_the_metrics_say(page: str, synthetic_run: Path) -> None:
    metrics = json.loads((synthetic_run / "metrics.json").read_text())
    shown = re.findall(r'<data value="([^"]+)" data-metric="([^"]+)">', page)
    assert len(shown) > 8
    for value, key in shown:
        assert float(value) == pytest.approx(metrics[key], rel=1e-6), key


def test_the_same_run_gives_the_same_page(page: str, synthetic_run: Path) -> None:
    assert render(load_run(synthetic_run)) == page


@pytest.mark.parametrize(
    "name",
    [
        "metrics.json",
        "costs.json",
        "learning_curve.json",
        "evaluation.parquet",
        "recheck.parquet",
        "screen",
        "config.yaml",
    ],
)
def test_a_missing_file_is_named_and_the_rest_is_shown(name: str, synthetic_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(synthetic_run, run)
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = write_report(run).read_text(encoding="utf-8")
    assert "could not be shown" not in text
    parsed = Page(text)
    assert all(anchor in parsed.ids for anchor, _, _ in SECTIONS)


def test_a_file_that_is_no_json_is_named(synthetic_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(synthetic_run, run)
    (run / "costs.json").write_text("{")
    assert "costs.json" in render(load_run(run))


def test_numbers_that_contradict_each_other_are_pointed_out(page: str, synthetic_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(synthetic_run, run)
    metrics = json.loads((run / "metrics.json").read_text())
    changed = metrics | {"recheck/top/hit_rate": 1.5 * metrics["recheck/top/hit_rate"]}
    (run / "metrics.json").write_text(json.dumps(changed))
    assert 'class="warning' not in page
    assert 'class="warning' in render(load_run(run))


def test_names_from_files_cannot_write_into_the_page(write_synthetic_run: Callable[..., Path], tmp_path: Path) -> None:
    run = write_synthetic_run(tmp_path / "run", candidates=500)
    frame = pd.read_parquet(run / "recheck.parquet")
    frame["message"] = "<script>alert(1)</script>"
    frame["status"] = np.where(np.arange(len(frame)) == 0, "crashed", frame.status)
    frame.to_parquet(run / "recheck.parquet")
    assert "<script>" not in render(load_run(run))


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_run(tmp_path / "nowhere")
    with pytest.raises(InputError):
        load_run(tmp_path)


def test_the_command_that_makes_a_run_again_holds_what_differs_from_the_defaults(synthetic_run: Path) -> None:
    config = dict(load_run(synthetic_run).config)
    text = command(config)
    assert text.startswith("understudy pipeline")
    assert "run.dir=runs/synthetic" in text
