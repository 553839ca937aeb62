"""Whatever text a file's name or a program brings, it is logged and printed, never an error of its own."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from experiments.application.choices import CONF
from experiments.application.log_format import show_any_text


def test_any_text_is_logged(tmp_path: Path) -> None:
    base = OmegaConf.load(CONF / "base" / "stage.yaml")
    logged: Any = OmegaConf.to_container(OmegaConf.select(base, "hydra.job_logging"), resolve=False)
    simple, file = logged["formatters"]["simple"], logged["handlers"]["file"]
    handler = get_class(file["class"])(str(tmp_path / "log.txt"), encoding=file["encoding"])
    handler.setFormatter(get_class(simple["class"])(simple["format"]))
    handler.handle(logging.LogRecord("a", logging.INFO, __file__, 1, "%s was printed", ("\udc80\0 é",), None))
    assert not (tmp_path / "log.txt").exists()  # the directory is not claimed yet
    handler.write_waiting()
    handler.close()
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").endswith(" INFO a: \\udc80\\x00 é was printed\n")


def test_any_text_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    show_any_text()
    print("\udc80 é")
    assert shown.getvalue() == b"\\udc80 \\xe9\n"
