"""Networks as StableHLO programs, which run without this package: files, a card, and their loading.

A program is the module that `jax.export` makes (https://docs.jax.dev/en/latest/export/export.html): weights and
operations as portable bytecode of StableHLO, which its runtimes read, and without any Python. The card, `export.json`,
names inputs and outputs in the order of the program's arguments, with their shapes, dtypes and units, the surrogate,
and the checksum of each program. Shapes are fixed but for the size of a batch, which may be any number; in the card it
is then called `batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from data.checksums import sha256
from data.claim import claim
from data.errors import CorruptStoreError, InputError
from data.files import remove_listed, write_bytes, write_json
from data.formats.damage import parsing
from data.json_files import read_plain
from data.plain import entry
from simulators.precision import jit_float32
from surrogates.saved import package_versions

CARD = "export.json"
REMEDY = "Export the surrogate again"
#: Name of the size of a batch that may be any number.
BATCH = "batch"
#: Largest mean of a column in units of its spread: with a rounding of 6e-8, an error of 6e-4 of the spread.
MOST_MEANS = 1e4


@dataclass(frozen=True)
class Program:
    """A function of arrays of fixed shapes, or of any size of a batch, to be exported.

    Attributes:
        name: of the file, such as "atoms-9".
        function: takes arrays by name, and returns arrays by name; it can be traced by JAX.
        inputs: dtype and shape of each argument.
        meanings: unit and meaning of each argument and output, such as "eV; energy of each atom".
    """

    name: str
    function: Callable[[Mapping[str, jax.Array]], Mapping[str, jax.Array]]
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    meanings: Mapping[str, str]


def write_programs(directory: Path, programs: Sequence[Program], card: Mapping[str, Any]) -> int:
    """Write programs and, as the last file, their card.

    Args:
        directory: created if absent; an export in it is replaced, and anything else is refused.
        programs: one for each shape.
        card: JSON-serialisable; what else a reader needs to use them.

    Returns:
        Bytes of all programs.

    Raises:
        InputError: a program allows no batch of any size.
    """
    total = 0
    entries = []
    with claim(directory, "export"):
        remove_listed(directory / CARD)
        for program in programs:
            exported = _export(program)
            content = bytes(exported.mlir_module_serialized)
            total += len(content)
            write_bytes(directory / f"{program.name}.stablehlo", content)
            outputs = jax.eval_shape(program.function, dict(program.inputs))
            entries.append(
                {
                    "name": program.name,
                    "file": f"{program.name}.stablehlo",
                    "sha256": sha256(content),
                    "platforms": list(exported.platforms),
                    "calling_convention": exported.calling_convention_version,
                    "arguments_used": list(exported.module_kept_var_idx),
                    "inputs": _described(program.inputs, program.meanings),
                    "outputs": _described(outputs, program.meanings),
                }
            )
        write_json(directory / CARD, {"format": 1, "versions": package_versions(), **card, "programs": entries})
    return total


def any_number() -> Any:
    """The size of a batch that is chosen when a program is called, as a dimension of a shape."""
    return jax.export.symbolic_shape(BATCH, constraints=[f"{BATCH} >= 1"])[0]


def _export(program: Program) -> jax.export.Exported:
    """The module of a program.

    Raises:
        InputError: it allows no batch of any size.
    """
    arguments = [one for _, one in sorted(program.inputs.items())]
    symbolic = any(not isinstance(size, int) for one in arguments for size in one.shape)
    try:
        with jax.default_matmul_precision("float32"):
            return jax.export.export(jit_float32(_flat(program)))(*arguments)
    # What a network does with a size that has no number yet fails in as many ways as there are networks.
    except Exception as error:
        if not symbolic:
            raise
        raise InputError(
            f"the network of {program.name} cannot be computed for a batch of any size: {str(error).splitlines()[0]}",
            where="batch", remedy="Give the number of samples of a batch, such as batch=8",
        ) from error  # fmt: skip


def refuse_few_digits(names: Sequence[str], pairs: Sequence[tuple[float, float]]) -> None:
    """Refuse columns that vary so little about their mean that float32 would lose more than a thousandth of it.

    Args:
        names: of the columns.
        pairs: mean and standard deviation of each.

    Raises:
        InputError: one of them does.
    """
    for name, (mean, spread) in zip(names, pairs, strict=True):
        if abs(mean) > MOST_MEANS * spread:
            raise InputError(
                f"{name} varies by {spread:g} about {mean:g}, too little for float32, in which programs take and give "
                "it", where="surrogate", remedy="Train on values without their mean, in units in which they are near 1",
            )  # fmt: skip


def _flat(program: Program) -> Callable[..., tuple[jax.Array, ...]]:
    """The function of a program with arguments and results in the order of their names."""

    def function(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        answer = program.function(dict(zip(sorted(program.inputs), arrays, strict=True)))
        return tuple(value for _, value in sorted(answer.items()))

    return function


def _described(arrays: Mapping[str, Any], meanings: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "dtype": str(one.dtype),
            "shape": [size if isinstance(size, int) else str(size) for size in one.shape],
            "meaning": meanings[name],
        }
        for name, one in sorted(arrays.items())
    }


class LoadedPrograms:
    """The programs of an export, as functions of arrays by name.

    Args:
        directory: what `write_programs` wrote.

    Attributes:
        card: the card.

    Raises:
        InputError: there is no export, or of a newer format.
        CorruptStoreError: a program is not the one that was written.
    """

    def __init__(self, directory: Path) -> None:
        path = Path(directory) / CARD
        if not path.is_file():
            raise InputError(f"no {CARD} in it", where=str(directory), remedy="Name what understudy export wrote")
        self.card: dict[str, Any] = read_plain(path, dict[str, Any], remedy=REMEDY)
        if entry(self.card, "format", int) > 1:
            raise InputError(f"format {self.card['format']} is newer than 1", where=str(path))
        self._programs: dict[str, Any] = {}
        for one in self.card["programs"]:
            file = Path(directory) / Path(str(one["file"])).name
            content = file.read_bytes() if file.is_file() else b""
            if sha256(content) != one["sha256"]:
                raise CorruptStoreError("is not what was exported", where=str(file), remedy=REMEDY)
            with parsing(file, error=CorruptStoreError, remedy=REMEDY):
                self._programs[str(one["name"])] = _exported(one, content)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the programs."""
        return tuple(self._programs)

    def __call__(self, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of one program.

        Raises:
            InputError: an array is missing, or has another shape than the program.
        """
        declared = next(one for one in self.card["programs"] if one["name"] == name)["inputs"]
        inputs = {key: np.asarray(value) for key, value in arrays.items()}
        batch: int | None = None
        for key, one in declared.items():
            shape = inputs[key].shape if key in inputs else None
            at = one["shape"].index(BATCH) if BATCH in one["shape"] else None
            if batch is None and at is not None and shape is not None and at < len(shape):
                batch = shape[at]
            expected = tuple(batch if size == BATCH and batch is not None else size for size in one["shape"])
            if shape != expected or batch == 0:
                raise InputError(f"{key} has shape {shape or 'none'}, not {expected}", where=name)
        answers = self._programs[name].call(
            *(inputs[key].astype(one["dtype"]) for key, one in sorted(declared.items()))
        )
        outputs = next(one for one in self.card["programs"] if one["name"] == name)["outputs"]
        return {key: np.asarray(value) for key, value in zip(sorted(outputs), answers, strict=True)}


def _exported(described: Mapping[str, Any], module: bytes) -> jax.export.Exported:
    """A module with the signature that the card describes, as JAX calls it."""

    batch = any_number()

    def shapes(arrays: Mapping[str, Any]) -> list[jax.ShapeDtypeStruct]:
        sizes = [tuple(batch if size == BATCH else size for size in one["shape"]) for _, one in sorted(arrays.items())]
        return [
            jax.ShapeDtypeStruct(shape, one["dtype"])
            for shape, (_, one) in zip(sizes, sorted(arrays.items()), strict=True)
        ]

    def same_signature(*_: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.zeros(one.shape, one.dtype) for one in shapes(described["outputs"]))

    return replace(
        jax.export.export(jit_float32(same_signature))(*shapes(described["inputs"])),
        mlir_module_serialized=module,
        module_kept_var_idx=tuple(described["arguments_used"]),
        platforms=tuple(described["platforms"]),
        calling_convention_version=int(described["calling_convention"]),
    )
