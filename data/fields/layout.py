"""Variables, grid and times of samples of fields, without their arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data.fields.sample_variables import SPACE
from data.plain import OMIT_DEFAULT
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
    #: Layouts of earlier versions lack this key, and their hash has to stay the same.
    lead: int = field(default=0, metadata=OMIT_DEFAULT)

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
