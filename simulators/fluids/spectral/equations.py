"""Table of the equations on periodic boxes: text, space dimensions, channels and parameters of each.

All equations are dimensionless, on a periodic box of side `length` in each direction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from data.errors import InputError

AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Parameter:
    """A coefficient of an equation.

    Attributes:
        name: the key in settings and in requests.
        default: value if the settings name none.
        long_name: description.
        minimum: smallest valid value; the problem is ill-posed or meaningless below.
        axis: the parameter exists in domains of more than `axis` dimensions.
        whole: whether it is a whole number; such a parameter cannot vary between requests.
    """

    name: str
    default: float
    long_name: str
    minimum: float = -math.inf
    axis: int = 0
    whole: bool = False


@dataclass(frozen=True)
class Equation:
    """One row of the table.

    Attributes:
        name: the key in settings.
        text: the equation as text.
        dims: numbers of space dimensions in which it is solved.
        channels: names of the fields of the state; "velocity" stands for one component per dimension.
        parameters: its coefficients.
        dealias: fraction of the wavenumbers that products keep: 2/3 for quadratic terms, 1/2 for cubic ones.
        linear: whether it is linear, and so solved exactly in time with any step.
        solenoidal: whether the state is a divergence-free velocity.
        carried: quantity that the flow advects: "state" (a velocity), "vorticity", or "" for none.
    """

    name: str
    text: str
    dims: tuple[int, ...]
    channels: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    dealias: float = 2 / 3
    linear: bool = False
    solenoidal: bool = False
    carried: str = ""

    def channel_names(self, dim: int) -> tuple[str, ...]:
        """Names of the channels in `dim` dimensions."""
        return ("u", "v", "w")[:dim] if self.channels == ("velocity",) else self.channels

    def parameters_in(self, dim: int) -> dict[str, Parameter]:
        """The parameters that exist in `dim` dimensions, by name."""
        return {p.name: p for p in self.parameters if p.axis < dim}

    def check(self, values: Mapping[str, float], dim: int, where: str) -> None:
        """Refuse parameters that do not exist or have an invalid value.

        Raises:
            InputError: names the parameter, its value and the valid values.
        """
        parameters = self.parameters_in(dim)
        for name, value in values.items():
            if name not in parameters:
                raise InputError(
                    f"{self.name} in {dim}D has no parameter {name!r}",
                    where=where,
                    remedy=f"It has {sorted(parameters)}",
                )
            rule = parameters[name]
            if not math.isfinite(value) or value < rule.minimum or (rule.whole and value != int(value)):
                kind = "a whole number" if rule.whole else "a finite number"
                least = f" of at least {rule.minimum:g}" if math.isfinite(rule.minimum) else ""
                raise InputError(f"{name} must be {kind}{least}, got {value}", where=where)


def _viscosity(default: float, name: str = "viscosity") -> Parameter:
    return Parameter(name, default, name.replace("_", " "), minimum=0.0)


VELOCITIES = tuple(Parameter(f"velocity_{a}", 1.0, f"velocity along {a}", axis=i) for i, a in enumerate(AXES))
CONVECTION = Parameter("convection", 1.0, "coefficient of convection")
DRAG = Parameter("drag", 0.0, "linear friction", minimum=0.0)
KS = (
    Parameter("second_order", 1.0, "coefficient of the destabilising second derivative"),
    Parameter("fourth_order", 1.0, "coefficient of the stabilising fourth derivative", minimum=0.0),
)
SHEAR = (
    Parameter("forcing", 1.0, "amplitude of the force"),
    Parameter("forcing_mode", 4, "wavenumber of the force", minimum=1, whole=True),
)
FLOW = (_viscosity(1e-3), DRAG)
VORTICITY_TEXT = "w_t + v . grad w = viscosity lap w - drag w{}, v = curl^-1 w, w = dv_y/dx - dv_x/dy"

EQUATIONS: Mapping[str, Equation] = {
    e.name: e
    for e in (
        Equation("advection", "u_t + velocity . grad u = 0", (1, 2, 3), ("u",), VELOCITIES, linear=True),
        Equation(
            "diffusion", "u_t = diffusivity lap u", (1, 2, 3), ("u",), (_viscosity(0.01, "diffusivity"),), linear=True
        ),
        Equation(
            "advection_diffusion",
            "u_t + velocity . grad u = diffusivity lap u",
            (1, 2, 3),
            ("u",),
            (*VELOCITIES, _viscosity(0.01, "diffusivity")),
            linear=True,
        ),
        Equation(
            "burgers",
            "u_t + convection (u . grad) u = viscosity lap u",
            (1, 2, 3),
            ("velocity",),
            (_viscosity(0.01), CONVECTION),
            carried="state",
        ),
        Equation(
            "korteweg_de_vries",
            "u_t + convection u u_x + dispersion u_xxx = viscosity u_xx - hyperviscosity u_xxxx",
            (1,),
            ("u",),
            (
                Parameter("convection", 6.0, "coefficient of convection"),
                Parameter("dispersion", 1.0, "coefficient of the third derivative"),
                _viscosity(0.0),
                _viscosity(0.0, "hyperviscosity"),
            ),
            carried="state",
        ),
        Equation(
            "kuramoto_sivashinsky",
            "u_t + gradient_norm |grad u|^2 / 2 + second_order lap u + fourth_order sum_i d_i^4 u = 0, mean u fixed",
            (1, 2, 3),
            ("u",),
            (Parameter("gradient_norm", 1.0, "coefficient of the squared gradient"), *KS),
        ),
        Equation(
            "kuramoto_sivashinsky_conservative",
            "u_t + convection u u_x + second_order u_xx + fourth_order u_xxxx = 0",
            (1,),
            ("u",),
            (CONVECTION, *KS),
            carried="state",
        ),
        Equation(
            "gray_scott",
            "a_t = diffusivity_a lap a + feed (1 - a) - a b^2, b_t = diffusivity_b lap b - (feed + kill) b + a b^2",
            (1, 2, 3),
            ("a", "b"),
            (
                _viscosity(2e-5, "diffusivity_a"),
                _viscosity(1e-5, "diffusivity_b"),
                Parameter("feed", 0.04, "rate at which a is fed", minimum=0.0),
                Parameter("kill", 0.06, "rate at which b decays", minimum=0.0),
            ),
            dealias=1 / 2,
        ),
        Equation(
            "fisher_kpp",
            "u_t = diffusivity lap u + reactivity u (1 - u)",
            (1, 2, 3),
            ("u",),
            (_viscosity(0.01, "diffusivity"), Parameter("reactivity", 1.0, "rate of growth")),
        ),
        Equation(
            "allen_cahn",
            "u_t = diffusivity lap u + linear u + cubic u^3",
            (1, 2, 3),
            ("u",),
            (
                _viscosity(5e-3, "diffusivity"),
                Parameter("linear", 1.0, "coefficient of u"),
                Parameter("cubic", -1.0, "coefficient of the cube of u"),
            ),
            dealias=1 / 2,
        ),
        Equation(
            "navier_stokes_vorticity",
            VORTICITY_TEXT.format(""),
            (2,),
            ("vorticity",),
            FLOW,
            carried="vorticity",
        ),
        Equation(
            "navier_stokes_kolmogorov",
            VORTICITY_TEXT.format(" + curl of (forcing sin(2 pi forcing_mode y / length), 0)"),
            (2,),
            ("vorticity",),
            (*FLOW, *SHEAR),
            carried="vorticity",
        ),
        # Li et al., arXiv:2010.08895, section 5.3.
        Equation(
            "navier_stokes_li",
            VORTICITY_TEXT.format(" + forcing (sin(2 pi (x + y) / length) + cos(2 pi (x + y) / length))"),
            (2,),
            ("vorticity",),
            (*FLOW, Parameter("forcing", 0.1, "amplitude of the forcing of vorticity")),
            carried="vorticity",
        ),
        Equation(
            "navier_stokes_3d",
            "v_t + (v . grad) v = -grad p + viscosity lap v - drag v, div v = 0",
            (3,),
            ("velocity",),
            (_viscosity(0.01), DRAG),
            solenoidal=True,
            carried="state",
        ),
        Equation(
            "navier_stokes_kolmogorov_3d",
            "v_t + (v . grad) v = -grad p + viscosity lap v - drag v + f, div v = 0, "
            "f = (forcing sin(2 pi forcing_mode y / length), 0, 0)",
            (3,),
            ("velocity",),
            (_viscosity(0.01), DRAG, *SHEAR),
            solenoidal=True,
            carried="state",
        ),
    )
}
