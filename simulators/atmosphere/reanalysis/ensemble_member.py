"""Selection of one member of an ensemble, by the user's choice, as a state has no dim of members."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from data.errors import InputError

#: Names of the dim of an ensemble in files, in lower case.
MEMBER_DIMS = ("number", "realization", "realisation", "ensemble", "ensemble_member", "member", "member_id", "ens")
Member = int | str | None


def member_dim(data: xr.Dataset) -> str | None:
    """Name of the dim or scalar coordinate that distinguishes ensemble members; None if there is none."""
    names = [*map(str, data.dims), *(str(c) for c in data.coords if data[c].ndim == 0)]
    return next((name for name in names if name.lower() in MEMBER_DIMS), None)


def select_member(parts: Sequence[tuple[str, xr.Dataset]], member: Member) -> list[tuple[str, xr.Dataset]]:
    """Select one member from files and drop the dim of members.

    Args:
        parts: name of each file, and its content.
        member: value of the coordinate of members, or an index from 0 on if the dim has no coordinate; None if there is
            only one member.

    Raises:
        InputError: there are several members and none is chosen, the chosen one does not exist, or there are none.
    """
    named = [(file, data, member_dim(data)) for file, data in parts]
    where = parts[0][0]
    every = list(dict.fromkeys(v for _, data, dim in named if dim is not None for v in _values(data, dim)))
    if member is None:
        if len(every) > 1:
            raise InputError(
                f"an ensemble of {len(every)} members ({_shown(every)}), of which a state needs one", where=where,
                remedy=f"Choose one, such as source.member={every[0]}, and write each member to another out=",
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
