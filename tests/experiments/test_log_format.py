"""Whatever text a file's name or a program brings, it is logged and printed, never an error of its own."""

from __future__ import annotations

import io
import logging
import logging.config
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from experiments.log_format import show_any_text
from experiments.stage import CONF


def test_any_text_is_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = OmegaConf.load(CONF / "common" / "base.yaml")
    logged: Any = OmegaConf.to_container(OmegaConf.select(base, "hydra.job_logging"), resolve=False)
    logged["handlers"]["file"]["filename"] = str(tmp_path / "log.txt")
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        logging.config.dictConfig({"version": 1, **logged})
        logging.getLogger("a").info("%s was printed", "\udc80\0 é")
        for handler in root.handlers:
            handler.close()
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").endswith(" INFO a: \\udc80\\x00 é was printed\n")
    assert "Logging error" not in capsys.readouterr().err


def test_any_text_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    show_any_text()
    print("\udc80 é")
    assert shown.getvalue() == b"\\udc80 \\xe9\n"
