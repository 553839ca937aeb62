"""The networks of a property surrogate in whole numbers of eight bits, and their answers by ONNX Runtime.

Quantisation after training (Jacob et al. 2018, arXiv:1712.05877): the matrices that mix channels are rounded to 8 bits
with a scale for each output channel, and their inputs with a scale for each array, from the least and greatest value
that it has for some molecules. Sums over neighbours, norms and tables stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.molecules.graph_tables import GraphTable
from data.molecules.graphs import GraphBatch, assign, pad, plan_batches
from surrogates.properties.onnx_graph import MIXING, onnx_package
from surrogates.properties.surrogate import PropertySurrogate

INPUTS = ("atoms", "bonds", "bond_atoms", "atom_counts")


def runtime() -> Any:
    """The package `onnxruntime`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("onnxruntime is not installed", remedy="pip install 'understudy[quantised]'") from error
    return onnxruntime


def arrays_of(batch: GraphBatch) -> dict[str, np.ndarray]:
    """The inputs of the graph for a batch."""
    return {name: np.asarray(getattr(batch, name)) for name in INPUTS}


def batches_of(surrogate: PropertySurrogate, table: GraphTable) -> Iterator[tuple[np.ndarray, GraphBatch]]:
    """The rows and the padded batches of a table, as predictions of the surrogate pack them."""
    place = assign(table, surrogate.buckets)
    members = {int(b): np.flatnonzero(place == b) for b in np.unique(place)}
    for bucket, rows in plan_batches(members, surrogate.buckets, surrogate.batch_size):
        yield rows, pad(table, rows, surrogate.buckets[bucket], surrogate.batch_size)


def quantised(model: Any, batches: Iterable[GraphBatch]) -> Any:
    """A model whose mixing products have 8 bits.

    Args:
        model: what `onnx_graph.onnx_model` made.
        batches: molecules like those that it will answer, at least one batch, such as some of its training.

    Raises:
        InputError: the extra quantised is not installed.
    """
    onnx = onnx_package()
    runtime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """Gives one batch after the other."""

        def __init__(self) -> None:
            self.rest = iter([arrays_of(batch) for batch in batches])

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch; None after the last one."""
            return next(self.rest, None)

    with TemporaryDirectory() as place:
        source, path = Path(place) / "source.onnx", Path(place) / "quantised.onnx"
        prepared = onnx.shape_inference.infer_shapes(model)
        # The graph has no part that its own preparation could fold, and it warns without this note.
        onnx.helper.set_model_props(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})
        # From a file, because a model in memory would be changed.
        onnx.save(prepared, source)
        quantize_static(
            source, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_quantize=[node.name for node in model.graph.node if node.name.startswith(MIXING)],
        )  # fmt: skip
        return onnx.load(path)


class OnnxNetworks:
    """The networks of a model as ONNX Runtime computes them, with one thread.

    Args:
        model: what `onnx_graph.onnx_model` or `quantised` made.

    Raises:
        InputError: the extra quantised is not installed.
    """

    def __init__(self, model: Any) -> None:
        ort = runtime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def members(self, batch: GraphBatch) -> Float[np.ndarray, "member molecule target"]:
        """The standardised answers of each network, with rows for padding."""
        answer: np.ndarray = self._session.run(["members"], arrays_of(batch))[0]
        return answer

    def raw(
        self, surrogate: PropertySurrogate, table: GraphTable
    ) -> tuple[Float[np.ndarray, "molecule target"], Float[np.ndarray, "molecule target"]]:
        """Mean and standard deviation over the networks, as `PropertySurrogate.raw` gives them."""
        scale, offset = np.array(surrogate.facts.standardise.scale), np.array(surrogate.facts.standardise.mean)
        members = np.zeros((len(surrogate.model.members), len(table), len(scale)))
        for rows, batch in batches_of(surrogate, table):
            members[:, rows] = self.members(batch)[:, : len(rows)]
        std = members.std(axis=0, ddof=1) if len(members) > 1 else np.zeros(members.shape[1:])
        return members.mean(axis=0) * scale + offset, std * scale
