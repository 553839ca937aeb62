"""Fields on a uniform grid with their inputs: the samples that a neural operator learns from.

A sample is a field, or a trajectory of one, with the fields and numbers that determine it. `data.fields.reading` reads
samples from a store of a campaign or from a file.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data.errors import InputError
from data.fields.files import SPACE
from data.fields.physics import refuse_other_physics
from data.grouping import row_keys
from data.plain import decode
from data.reading import Reading
from data.spec import Coordinate, Variable


@dataclass(frozen=True)
class Layout:
    """Describes the arrays of `Fields`.

    Attributes:
        output: the field, or the trajectory of one.
        initial: the input that is its state at the first time; None where nothing evolves.
        static: inputs that are fields, in the order of `Fields.static`.
        parameters: inputs that are numbers, in the order of `Fields.parameters`.
        axes: time, channel and space, those that the output has.
        periodic: for each dim of space, whether its ends meet.
        attrs: boundary conditions, solver and equation, as far as the source names them.
        lead: steps from `initial` to the first time of the output: 0 where the output holds it, 1 where it begins after
            it; `Fields.states` hold it in either case.
    """

    output: Variable
    initial: Variable | None
    static: tuple[Variable, ...]
    parameters: tuple[Variable, ...]
    axes: tuple[Coordinate, ...]
    periodic: tuple[bool, ...]
    attrs: dict[str, str] = field(default_factory=dict)
    lead: int = 0

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        variables = [self.output, *self.static, *([] if self.initial is None else [self.initial])]
        lacking = [dim for variable in variables for dim in variable.dims if dim not in names]
        if lacking or len(set(names)) < len(names):
            raise ValueError(f"axes must be those of the fields, each once; got {', '.join(names)}")
        if len(self.periodic) != len(self.space) or self.lead not in (0, 1):
            raise ValueError("periodic must be said of each dim of space, and lead be 0 or 1")
        if any(isinstance(v, str) for dim in (*self.space, "time") if dim in names for v in self.axis(dim).values):
            raise ValueError("axes of space and time must be numbers")

    @property
    def space(self) -> tuple[str, ...]:
        """Names of the dims of space."""
        return tuple(d for d in self.output.dims if d in SPACE)

    @property
    def evolves(self) -> bool:
        """Whether the output is a trajectory."""
        return "time" in self.output.dims

    @property
    def channels(self) -> int:
        """Components of the output."""
        return len(self.axis("channel").values) if "channel" in self.output.dims else 1

    @property
    def points(self) -> tuple[int, ...]:
        """Grid points along each dim of space."""
        return tuple(len(self.axis(d).values) for d in self.space)

    def axis(self, name: str) -> Coordinate:
        """The axis called `name`."""
        return next(a for a in self.axes if a.name == name)

    def lengths(self) -> tuple[float, ...]:
        """Length of the domain along each dim, in its units: points times spacing.

        A dim of one point has no length of its own: it gets the longest of the others, or 1.
        """
        axes = [np.asarray(self.axis(dim).values, float) for dim in self.space]
        extents = [float(values[1] - values[0]) * len(values) if len(values) > 1 else 0.0 for values in axes]
        return tuple(length or max(extents) or 1.0 for length in extents)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes an equal layout."""
        plain = asdict(self)
        # Layouts of earlier versions lack this key, and their hash has to stay the same.
        return plain if self.lead else {k: v for k, v in plain.items() if k != "lead"}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Layout:
        """The object that `to_json` described."""
        return decode(Layout, value)


@dataclass(frozen=True)
class Fields:
    """Samples of one layout, channels last; in float32 where that keeps what varies, in float64 where it does not.

    Attributes:
        layout: description of the arrays.
        states: the output, in its unit; a single time where nothing evolves, else the initial state first.
        static: input fields, in the order of the layout.
        parameters: input numbers, in the order of the layout.
        fingerprint: identity of the labels: the simulator's, or the hash of the file's arrays.
        seconds: core-seconds that each sample took its simulator; NaN where unknown.
        reading: summary of what was read from their source; None if they were not read.
    """

    layout: Layout
    states: Float[np.ndarray, "sample time *space channel"]
    static: Float[np.ndarray, "sample *space static"]
    parameters: Float[np.ndarray, "sample parameter"]
    fingerprint: str
    seconds: Float[np.ndarray, " sample"]
    reading: Reading | None = None

    def __len__(self) -> int:
        return len(self.states)

    def take(self, rows: Int[np.ndarray, " n"]) -> Fields:
        """Some of the samples."""
        return replace(
            self,
            states=self.states[rows],
            static=self.static[rows],
            parameters=self.parameters[rows],
            seconds=self.seconds[rows],
        )

    def input_keys(self) -> list[str]:
        """A key for each sample: the same for the same fields, numbers and first state."""
        first = [self.states[:, 0]] if self.layout.evolves else []
        return row_keys(self.static, self.parameters, *first)

    def content(self) -> str:
        """SHA-256 (hex) of the arrays."""
        digest = hashlib.sha256()
        for array in (self.states, self.static, self.parameters):
            # Fields that float32 resolves keep the hash that they had when all fields were float32.
            kind = "<f8" if array.dtype == np.float64 and array.ndim > 2 else "<f4"
            digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array, kind).tobytes())
        return digest.hexdigest()

    def refuse_other(self, layout: Layout, where: str, *, same_grid: bool = True) -> None:
        """Refuse samples that do not answer the question that a layout asks.

        Args:
            layout: layout that the samples have to match.
            where: file that these samples come from, for errors.
            same_grid: whether the grid has to be the same too.

        Raises:
            InputError: names, units, channels, the time step, the domain or its boundary differ, or the grid.
        """
        sample_layout = self.layout
        for what, mine, theirs in (
            ("variables", _names(sample_layout), _names(layout)),
            ("dims", sample_layout.output.dims, layout.output.dims),
            ("units", _units(sample_layout), _units(layout)),
            ("channels", _channels(sample_layout), _channels(layout)),
        ):
            if mine != theirs:
                raise InputError(
                    f"its {what} are {_plain(mine)}, {_plain(theirs)} are needed",
                    where=where,
                    remedy="Give samples of the same simulator as those of the training",
                )
        refuse_other_physics(sample_layout, layout, where)
        if same_grid and sample_layout.points != layout.points:
            raise InputError(
                f"its grid has {' x '.join(map(str, sample_layout.points))} points, "
                f"{' x '.join(map(str, layout.points))} are needed",
                where=where,
                remedy="Resample it",
            )


def _names(layout: Layout) -> tuple[str, ...]:
    initial = () if layout.initial is None else (layout.initial.name,)
    return (layout.output.name, *initial, *(v.name for v in (*layout.static, *layout.parameters)))


def _units(layout: Layout) -> tuple[str, ...]:
    initial = () if layout.initial is None else (layout.initial,)
    return tuple(v.units for v in (layout.output, *initial, *layout.static, *layout.parameters))


def _channels(layout: Layout) -> tuple[Any, ...]:
    return layout.axis("channel").values if "channel" in layout.output.dims else ()


def _plain(value: tuple[Any, ...]) -> str:
    return ", ".join(map(str, value)) or "none"
