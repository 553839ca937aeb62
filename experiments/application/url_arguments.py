"""URLs among the places that a command writes to: results of a screen go there commit by commit, others do not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError
from data.remote.path import is_url, path_of

#: Stages whose results are written to a URL as they are committed.
PUBLISHING = ("screen",)


def with_published_places(stage: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of a stage, with `out=URL` written as `publish=URL` and a directory of this machine.

    That directory is `run.dir`, or one whose name follows from the URL, so that the same command resumes.

    Raises:
        InputError: a URL is given where a stage writes to this machine alone.
    """
    values = {key: value.strip("'\"") for key, _, value in (argument.partition("=") for argument in arguments)}
    for key in ("out", "run.dir"):
        if is_url(values.get(key)) and (key != "out" or stage not in PUBLISHING):
            raise InputError(
                f"understudy {stage} writes to a directory of this machine",
                where=key,
                remedy=f"Give {key}=PATH, and copy what it wrote with understudy publish PATH {values[key]}",
            )
    if not is_url(values.get("out")):
        return list(arguments)
    if "publish" in values:
        raise InputError("out is a URL already", where="publish", remedy="Give one of them")
    if "shard" in values:
        raise InputError(
            "shards are merged on this machine", where="out", remedy="Give out=PATH, and understudy publish after merge"
        )
    url = str(path_of(values["out"].rstrip("/")))
    name = f"{url.rpartition('/')[2]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    place = values.get("run.dir") or str(Path("runs") / stage / name)
    kept = [argument for argument in arguments if argument.partition("=")[0] not in ("out", "run.dir")]
    return [*kept, f"out='{place}'", f"publish='{url}'"]
