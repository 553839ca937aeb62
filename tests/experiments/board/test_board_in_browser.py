"""A person with a browser sees the runs, compares two of them, and watches one that is under way."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import write_progress, write_training

from experiments.board.board_page import write_board
from experiments.board.board_server import BoardServer

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the dependency group dev)")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium is on the PATH; tried {', '.join(PROGRAMS)}")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with sync_api.sync_playwright() as playwright:
        # Its sandbox does not start for the superuser, as whom tests run in containers.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens an address, and holds the page to loading nothing else, raising no error and opening no dialogue."""
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})

    def opened(address: str) -> Any:
        page = context.new_page()
        page.on("request", lambda r: None if r.url.startswith(address.split("#")[0]) else problems.append(r.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        return page

    yield opened
    context.close()
    assert problems == []


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two trainings, one that is under way, and one with a name that would be HTML."""
    folder = tmp_path / "runs"
    write_training(folder / "wide", [1.0, 0.1, 0.01], settings={"width": 256})
    write_training(folder / "narrow", [1.0, 0.5, 0.4], settings={"width": 16})
    write_training(folder / HOSTILE, [1.0], state="failed", problem=HOSTILE)
    write_progress(folder / "under_way", "simulate", state="running", done=2.0, share=0.25, failures={"timeout": 3})
    return folder


def compared(page: Any) -> dict[str, Any]:
    """What the comparison of the chosen runs shows."""
    page.wait_for_selector('figure[data-quantity="valid/loss"] path.line')
    cells = "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    return {
        "lines": page.locator('figure[data-quantity="valid/loss"] path.line').count(),
        "metrics": {row[0]: row[1:] for row in page.eval_on_selector_all("#metrics tbody tr", cells)},
        "settings": {row[0]: row[1:] for row in page.eval_on_selector_all("#settings tbody tr", cells)},
        "costs": {row[0]: row[1:] for row in page.eval_on_selector_all("#costs tbody tr", cells)},
    }


def check_comparison(page: Any) -> None:
    """Choose two runs, and see that they are compared as their files say."""
    page.get_by_label("compare wide").check()
    page.get_by_label("compare narrow").check()
    page.wait_for_function("document.querySelectorAll('#metrics thead th').length === 4")
    shown = compared(page)
    assert shown["lines"] == 2
    assert shown["metrics"]["test/gap/mae_ev"] == ["0.01000", "0.4000", "+3,900%"]
    assert shown["metrics"]["train/core_seconds"] == ["2.00 core-h", "2.00 core-h", "equal"]
    assert shown["settings"] == {"model.width": ["256", "16"], "run.dir": ["wide", "narrow"]}
    assert shown["costs"]["processor time of all sessions"] == ["90.0 core-s", "90.0 core-s"]
    page.get_by_label("remove narrow").click()
    page.wait_for_function("document.querySelectorAll('figure[data-quantity=\"valid/loss\"] path.line').length === 1")


def test_two_runs_are_compared_and_one_under_way_is_followed(runs: Path, visit: Any) -> None:
    with BoardServer(runs) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        page = visit(server.url)
        row = page.locator('tr[data-run="under_way"]')
        sync_api.expect(row).to_contain_text("25.0%, 2 of 8")
        sync_api.expect(row).to_contain_text("3 failed: timeout")
        sync_api.expect(page.locator("#summary")).to_contain_text("4 runs, 1 under way")
        check_comparison(page)
        # The page asks for news by itself.
        write_progress(runs / "under_way", "simulate", state="running", done=6.0, share=0.75)
        sync_api.expect(row).to_contain_text("75.0%, 6 of 8", timeout=60_000)
        assert row.get_by_role("progressbar").get_attribute("aria-valuenow") == "75.0"
        write_training(runs / "under_way", [2.0, 1.0])
        sync_api.expect(row).to_contain_text("finished", timeout=60_000)
        row.get_by_role("checkbox").check()
        page.wait_for_function("document.querySelectorAll('#chips .chip').length === 2")
        # The address holds the choice.
        page.reload()
        page.wait_for_function("document.querySelectorAll('#chips .chip').length === 2")
        assert compared(page)["lines"] == 2
        server.shutdown()
        thread.join()


def test_a_file_compares_without_a_server_and_shows_foreign_names_as_text(
    runs: Path, visit: Any, tmp_path: Path
) -> None:
    write_board(runs, tmp_path / "board.html")
    page = visit((tmp_path / "board.html").as_uri())
    check_comparison(page)
    page.get_by_label("Find").first.fill("onerror")
    names = page.locator("#runs tbody th")
    sync_api.expect(names).to_have_text([HOSTILE])
    sync_api.expect(page.locator("#count")).to_have_text("1 run shown")
    assert page.locator("img").count() == 0
    page.get_by_label("Find").first.fill("")
    page.get_by_label("Stage").select_option("simulate")
    sync_api.expect(names).to_have_text(["under_way"])
    page.get_by_label("Stage").select_option("")
    page.get_by_role("button", name="Run", exact=True).click()
    sync_api.expect(names).to_have_text([HOSTILE, "narrow", "under_way", "wide"])
