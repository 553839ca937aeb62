"""One member of an ensemble: a state has no dim of members, and which one is meant is for people to say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from data.errors import InputError

#: What files call the dim of an ensemble, in lower case.
MEMBER_DIMS = ("number", "realization", "realisation", "ensemble", "ensemble_member", "member", "member_id", "ens")
Member = int | str | None


def member_dim(data: xr.Dataset) -> str | None:
    """The dim or the single value of a Dataset that tells members of an ensemble apart; None where there is none."""
    names = [*map(str, data.dims), *(str(c) for c in data.coords if data[c].ndim == 0)]
    return next((name for name in names if name.lower() in MEMBER_DIMS), None)


def select_member(parts: Sequence[tuple[str, xr.Dataset]], member: Member) -> list[tuple[str, xr.Dataset]]:
    """The files of one member, each without the dim.

    Args:
        parts: name of each file, and its content.
        member: the value of the coordinate that tells members apart, or the number of one, from 0 on, where a dim has
            no coordinate; None where there is one member only.

    Raises:
        InputError: there are several members and none is chosen, that one is not there, or there are no members.
    """
    named = [(file, data, member_dim(data)) for file, data in parts]
    where = parts[0][0]
    every = list(dict.fromkeys(v for _, data, dim in named if dim is not None for v in _values(data, dim)))
    if member is None:
        if len(every) > 1:
            raise InputError(
                f"an ensemble of {len(every)} members ({_shown(every)}), and a state is that of one", where=where,
                remedy=f"Choose one by source.member={every[0]}, and give those of others an out= of their own",
            )  # fmt: skip
        return list(parts)
    if not every:
        raise InputError("it has no members to choose from", where=where, remedy="Leave source.member out")
    if str(member) not in every:
        raise InputError(f"no member {member} in it", where=where, remedy=f"source.member is one of {_shown(every)}")
    kept = []
    for file, data, dim in named:
        if dim is None:
            kept.append((file, data))
        elif str(member) in (values := _values(data, dim)):
            one = data.isel({dim: values.index(str(member))}) if dim in data.dims else data
            kept.append((file, one.drop_vars(dim, errors="ignore")))
    return kept


def _values(data: xr.Dataset, dim: str) -> list[str]:
    """Names of the members."""
    if dim not in data.coords:
        return [str(k) for k in range(data.sizes[dim])]
    values = np.atleast_1d(data[dim].values)
    whole = values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all()
    return [v.decode() if isinstance(v, bytes) else str(v) for v in (values.astype(int) if whole else values).tolist()]


def _shown(members: Sequence[str]) -> str:
    return ", ".join(members) if len(members) <= 6 else f"{', '.join(members[:3])}, ... {members[-1]}"
