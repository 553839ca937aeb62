"""The places of a shard, which follow from `out` and `shard` on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from data.errors import InputError
from data.shards import Shard

#: Stage -> what its shards write within their run directories; "" where that is the run directory itself.
SHARDED: Mapping[str, str] = {"simulate": "labels.zarr", "prepare": "library", "screen": ""}


def with_shard_places(stage: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of a stage with `out` and `run.dir` of its shard, if they name one.

    Shard i of n of a command with `out=OUT` has the run directory `OUT.shards/i-of-n`, in which it writes everything.

    Raises:
        InputError: the shard is none, `out` is missing, or `run.dir` is given as well.
    """
    values = {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    text = values.get("shard", "null")
    if stage not in SHARDED or text in ("null", ""):
        return list(arguments)
    shard = Shard.parse(text.strip("'\""))
    if "out" not in values:
        raise InputError(
            f"shard {shard} lies beside the output of the whole", where="out", remedy="Give out=OUT with shard=i/n"
        )
    if "run.dir" in values:
        raise InputError("the directory of a shard follows from out and shard", where="run.dir", remedy="Leave it out")
    directory = shard.directory(Path(values["out"].strip("'\"")))
    kept = [argument for argument in arguments if argument.partition("=")[0] != "out"]
    return [*kept, f"out={quoted(directory / SHARDED[stage])}", f"run.dir={quoted(directory)}"]


def quoted(path: Path) -> str:
    """A path as the value of an argument, in quotes where it has signs of its own."""
    text = str(path)
    plain = all(c.isalnum() or c in "/-_.+" for c in text)
    return text if plain else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
