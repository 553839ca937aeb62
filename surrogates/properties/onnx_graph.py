"""The networks of a property surrogate as a graph of ONNX: from the bytes of molecular graphs to standardised targets.

The graph has the layers of `surrogates.properties.mpnn` as standard operators, with any number of molecules, atoms and
bonds. One-hot features, of atoms and of bonds, times a matrix are rows of tables that are computed here, and atoms of
padding are left out of sums instead of being set to zero; all else is as in the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.molecules.graph_tables import ATOM_COLUMNS, BOND_COLUMNS
from surrogates.properties.mpnn import (
    ATOM_LEVELS,
    BOND_KINDS,
    BOND_VALUES,
    ELEMENTS,
    MPNN,
    SATURATING,
    Block,
    bond_features,
)
from surrogates.properties.surrogate import PropertySurrogate

#: Version of the standard operators; IR 9 and later read it.
OPSET, IR = 18, 9
#: Names of the products whose factors are weights, which a quantisation may round; others are of positions alone.
MIXING = "mix"
#: The columns of an atom in two tables, so that each has few rows: product of the numbers of their classes.
COLUMNS = (("atomic_number", "hydrogens", "charge"), ("chirality", "aromatic", "ring", "degree", "ring_bonds"))


def onnx_model(surrogate: PropertySurrogate) -> Any:
    """A model of ONNX, checked, whose outputs are `members`, `value` and `std`.

    `members` (member, molecule, target) are the standardised answers of the networks; `value` and `std` are their mean
    and standard deviation in the units of the targets. The inputs are those of `data.molecules.graphs.GraphBatch`.

    Args:
        surrogate: the surrogate.

    Raises:
        InputError: the surrogate stands on another one, predicts probabilities, or has products of another precision
            than float32; or the extra quantised is not installed.
    """
    facts = surrogate.facts
    if facts.on is not None or facts.classification:
        raise InputError(
            "only numbers that are learned without a cheaper simulator are exported", where="surrogate",
            remedy="Train one without on= and data.classification",
        )  # fmt: skip
    if facts.config.network.precision != "float32":
        raise InputError(
            f"its products are in {facts.config.network.precision}, and those of the export in float32",
            where="surrogate", remedy="Train one with model.network.precision=float32",
        )  # fmt: skip
    onnx = onnx_package()
    graph = _Graph(onnx)
    inputs = _inputs(graph)
    answers = [_member(graph, member, inputs, f"m{k}") for k, member in enumerate(surrogate.model.members)]
    stacked = [graph.add("Unsqueeze", answer, graph.ints([0])) for answer in answers]
    members = graph.add("Concat", *stacked, axis=0, output="members")
    scale = graph.constant("scale", np.array(facts.standardise.scale, np.float32))
    offset = graph.constant("offset", np.array(facts.standardise.mean, np.float32))
    mean = graph.add("ReduceMean", members, graph.ints([0]), keepdims=0)
    graph.add("Add", graph.add("Mul", mean, scale), offset, output="value")
    gap = graph.add("Sub", members, mean)
    total = graph.add("ReduceSum", graph.add("Mul", gap, gap), graph.ints([0]), keepdims=0)
    spread = graph.add("Sqrt", graph.add("Mul", total, graph.number(1.0 / max(len(answers) - 1, 1))))
    graph.add("Mul", spread, scale, output="std")
    return graph.model(len(answers), len(surrogate.targets))


def onnx_package() -> Any:
    """The package `onnx`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as error:
        raise InputError("onnx is not installed", remedy="pip install 'understudy[quantised]'") from error
    return onnx


class _Graph:
    """Nodes and constants in the order in which they are added."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, name: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(operator, inputs, [output], name=name or output, **attributes)
        self._nodes.append(node)
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add an array and return its name; one of this name is kept."""
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def ints(self, values: Sequence[int]) -> str:
        """A vector of whole numbers."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> str:
        """A float."""
        return self.constant(f"number_{value!r}", np.array(value, np.float32))

    def whole(self, value: int) -> str:
        """A whole number of 32 bits."""
        return self.constant(f"whole_{value}", np.array(value, np.int32))

    def cast(self, what: str, kind: str) -> str:
        """The array as "FLOAT", "INT32" or "INT64"."""
        return self.add("Cast", what, to=getattr(self._onnx.TensorProto, kind))

    def size(self, what: str, axis: int) -> str:
        """The length of an axis, as a vector of one."""
        return self.add("Shape", what, start=axis, end=axis + 1)

    def column(self, what: str, at: int) -> str:
        """One entry of the last axis, as whole numbers of 32 bits."""
        return self.cast(self.add("Gather", what, self.constant(f"at_{at}", np.array(at, np.int64)), axis=-1), "INT32")

    def model(self, members: int, targets: int) -> Any:
        """The model, checked."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        inputs = [
            helper.make_tensor_value_info("atoms", kinds.UINT8, ["batch", "atoms", len(ATOM_COLUMNS)]),
            helper.make_tensor_value_info("bonds", kinds.UINT8, ["batch", "bonds", len(BOND_COLUMNS)]),
            helper.make_tensor_value_info("bond_atoms", kinds.UINT8, ["batch", "bonds", 2]),
            helper.make_tensor_value_info("atom_counts", kinds.INT32, ["batch"]),
        ]
        outputs = [
            helper.make_tensor_value_info("members", kinds.FLOAT, [members, "batch", targets]),
            helper.make_tensor_value_info("value", kinds.FLOAT, ["batch", targets]),
            helper.make_tensor_value_info("std", kinds.FLOAT, ["batch", targets]),
        ]
        graph = helper.make_graph(self._nodes, "properties", inputs, outputs, list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        self._onnx.checker.check_model(model, full_check=True)
        return model


def _inputs(graph: _Graph) -> dict[str, str]:
    """What all members share: rows of tables, incidence, and the weights of the mean; see `mpnn.read`."""
    rows = []
    for columns in COLUMNS:
        row = None
        for name in columns:
            table = graph.constant(f"class_{name}", _classes(name)[0] * _step(columns, name))
            part = graph.add("Gather", table, graph.column("atoms", ATOM_COLUMNS.index(name)))
            row = part if row is None else graph.add("Add", row, part)
        assert row is not None
        rows.append(row)
    kind = None
    for k, count in enumerate(BOND_VALUES):
        column = graph.add("Min", graph.column("bonds", k), graph.whole(count - 1))
        kind = column if kind is None else graph.add("Add", graph.add("Mul", kind, graph.whole(count)), column)
    assert kind is not None
    size = graph.cast(graph.size("atoms", 1), "INT32")
    places = graph.add("Range", graph.whole(0), graph.add("Squeeze", size), graph.whole(1))
    ends = [graph.column("bond_atoms", k) for k in (0, 1)]
    # A bond of padding ends at no atom, and may begin anywhere.
    to_atom = graph.add("Concat", ends[1], ends[0], axis=1)
    column = graph.add("Unsqueeze", places, graph.ints([1]))
    incidence = graph.cast(graph.add("Equal", graph.add("Unsqueeze", to_atom, graph.ints([1])), column), "FLOAT")
    last = graph.add("Sub", size, graph.whole(1))
    both = [graph.add("Unsqueeze", end, graph.ints([1])) for end in ends]
    begins = graph.add("Min", graph.add("Concat", *both, axis=1), last)
    molecules = graph.add("Squeeze", graph.cast(graph.size("atoms", 0), "INT32"))
    first = graph.add("Mul", graph.add("Range", graph.whole(0), molecules, graph.whole(1)), size)
    begins = graph.add("Add", begins, graph.add("Unsqueeze", first, graph.ints([1, 2])))
    counts = graph.add("Unsqueeze", "atom_counts", graph.ints([1]))
    present = graph.add("Less", graph.add("Unsqueeze", places, graph.ints([0])), counts)
    inverse = graph.add("Div", graph.number(1.0), graph.cast(graph.add("Max", counts, graph.whole(1)), "FLOAT"))
    return {
        "atoms_0": rows[0], "atoms_1": rows[1], "kind": kind, "incidence": incidence, "begins": begins,
        "size": graph.size("atoms", 1), "filled": graph.add("Less", graph.whole(0), counts),
        "present": graph.add("Unsqueeze", present, graph.ints([2])),
        "mean": graph.add("Unsqueeze", graph.add("Mul", graph.cast(present, "FLOAT"), inverse), graph.ints([1])),
        "sum": graph.add("Unsqueeze", graph.cast(present, "FLOAT"), graph.ints([1])),
    }  # fmt: skip


def _classes(name: str) -> tuple[np.ndarray, int]:
    """The class of each value of a column, and the number of classes; 0 is that of values without a feature."""
    values = np.arange(256)
    if name == "atomic_number":
        classes: Sequence[int] = ELEMENTS
    else:
        classes = ATOM_LEVELS[name]
        if name in SATURATING:
            values = np.minimum(values, classes[-1])
    numbers = np.zeros(256, np.int32)
    for k, value in enumerate(classes):
        numbers[values == value] = k + 1
    if name == "atomic_number":
        numbers[1:][numbers[1:] == 0] = len(classes) + 1  # other elements
        return numbers, len(classes) + 2
    return numbers, len(classes) + 1


def _step(columns: Sequence[str], name: str) -> np.int32:
    """What one class of a column adds to the row of the table."""
    return np.int32(np.prod([_classes(other)[1] for other in columns[columns.index(name) + 1 :]], dtype=int))


def _atom_tables(kernel: Float[np.ndarray, "feature width"]) -> list[np.ndarray]:
    """For each of `COLUMNS`, the sum of the rows of a matrix that the features of an atom choose."""
    start = {"atomic_number": 0}
    at = len(ELEMENTS) + 1
    for name, levels in ATOM_LEVELS.items():
        start[name], at = at, at + len(levels)
    tables = []
    for columns in COLUMNS:
        table = np.zeros((1, kernel.shape[1]), np.float32)
        for name in columns:
            count = _classes(name)[1]
            rows = np.concatenate([np.zeros((1, kernel.shape[1])), kernel[start[name] : start[name] + count - 1]])
            table = (table[:, None] + rows[None]).reshape(-1, kernel.shape[1])
        if columns[0] == "atomic_number":
            # Padding, with atomic number 0, has no features at all.
            table[: len(table) // _classes("atomic_number")[1]] = 0.0
        tables.append(table.astype(np.float32))
    return tables


def _linear(graph: _Graph, layer: Any, what: str, name: str) -> str:
    kernel, bias = (graph.constant(f"{name}_{end}", _weights(layer, end)) for end in ("kernel", "bias"))
    return graph.add("Gemm", what, kernel, bias, name=f"{MIXING}_{name}")


def _weights(layer: Any, name: str) -> Float[np.ndarray, "*shape"]:
    return np.asarray(getattr(layer, name)[...], np.float32)


def _normal(graph: _Graph, norm: Any, what: str, name: str) -> str:
    """The root mean square of each atom is 1; in the operators that runtimes fuse into one."""
    square = graph.add("ReduceMean", graph.add("Pow", what, graph.number(2.0)), graph.ints([-1]), keepdims=1)
    root = graph.add("Sqrt", graph.add("Add", square, graph.number(float(norm.epsilon))))
    scale = graph.constant(f"{name}_scale", _weights(norm, "scale"))
    return graph.add("Mul", graph.add("Div", what, root), scale)


def _member(graph: _Graph, member: MPNN, inputs: dict[str, str], name: str) -> str:
    """The standardised answers of one network; see `mpnn.MPNN`."""
    tables = _atom_tables(_weights(member.embed, "kernel"))
    tables[1] = tables[1] + _weights(member.embed, "bias")
    parts = [
        graph.add("Gather", graph.constant(f"{name}_atoms_{k}", table), inputs[f"atoms_{k}"])
        for k, table in enumerate(tables)
    ]
    width = tables[0].shape[1]
    shape = graph.add("Concat", graph.ints([-1]), inputs["size"], graph.ints([width]), axis=0)
    state = graph.add("Reshape", graph.add("Add", *parts), graph.ints([-1, width]))
    for k, block in enumerate(member.blocks):
        state = _block(graph, block, state, inputs, shape, f"{name}_{k}")
    state = graph.add("Reshape", _normal(graph, member.norm, state, f"{name}_norm"), shape)
    flat = graph.ints([1])
    mean = graph.add("Squeeze", graph.add("MatMul", inputs["mean"], state), flat)
    total = graph.add("Squeeze", graph.add("MatMul", inputs["sum"], state), flat)
    shown = graph.add("Where", inputs["present"], state, graph.number(-1e4))
    largest = graph.add("ReduceMax", shown, flat, keepdims=0)
    # A molecule of padding has none: a value far from all others would take the digits of 8 bits from these.
    largest = graph.add("Where", inputs["filled"], largest, graph.number(0.0))
    pooled = graph.add("Concat", mean, largest, graph.add("Mul", total, graph.number(0.1)), axis=-1)
    hidden = graph.add("Relu", _linear(graph, member.mix, pooled, f"{name}_mix"))
    return _linear(graph, member.head, hidden, f"{name}_head")


def _block(graph: _Graph, block: Block, state: str, inputs: dict[str, str], shape: str, name: str) -> str:
    """One round of messages; see `mpnn.Block`. The state has a row for each atom of all molecules."""
    normal = _normal(graph, block.norm, state, f"{name}_norm")
    width = _weights(block.out, "kernel").shape[1]
    features = np.asarray(bond_features(jnp.asarray(BOND_KINDS)), np.float32)
    kinds = features @ _weights(block.bond, "kernel") + _weights(block.bond, "bias")
    bond = graph.add("Gather", graph.constant(f"{name}_bonds", kinds), inputs["kind"])
    begun = graph.add("Gather", normal, inputs["begins"])
    # Both directions of a bond share its features.
    both = graph.add("Add", begun, graph.add("Unsqueeze", bond, graph.ints([1])))
    message = graph.add("Reshape", graph.add("Relu", both), graph.ints([0, -1, width]))
    received = graph.add("MatMul", inputs["incidence"], message)
    rows = graph.add("Reshape", normal, shape)
    average = graph.add("Squeeze", graph.add("MatMul", inputs["mean"], rows), graph.ints([1]))
    whole = graph.add("Unsqueeze", _linear(graph, block.whole, average, f"{name}_whole"), graph.ints([1]))
    joined = graph.add("Concat", graph.add("Add", rows, whole), received, axis=-1)
    joined = graph.add("Reshape", joined, graph.ints([-1, 2 * width]))
    hidden = graph.add("Relu", _linear(graph, block.mix, joined, f"{name}_mix"))
    return graph.add("Add", state, _linear(graph, block.out, hidden, f"{name}_out"))
