"""Choice of the frames to label next: uncertain frames that differ from each other and from the labelled ones.

The uncertainty of a frame is the disagreement of the ensemble on its worst atom, as in DP-GEN (Zhang et al. 2019,
doi:10.1103/PhysRevMaterials.3.023804, eq. 4). A batch of uncertain frames is picked by largest cluster maximum distance
(LCMD; Holzmueller, Zaverkin, Kaestner, Steinwart, JMLR 2023, 24, 164), with distances between bags of bonds (Hansen et
al. 2015, doi:10.1021/acs.jpclett.5b00831) weighted by the uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist

from data.structures.structures import MAX_ATOMIC_NUMBER, Structures

RULES = ("uncertain", "uncertain_half", "random")


@dataclass(frozen=True)
class ChoiceConfig:
    """How many frames a round labels, and by which rule they are chosen.

    Attributes:
        rule: "uncertain" picks by uncertainty and diversity; "uncertain_half" draws uniformly among the more uncertain
            half; "random" picks uniformly, as a baseline.
        batch: largest number of frames picked by the rule; there are fewer if fewer are uncertain.
        audit: frames drawn uniformly in addition. Their errors before training are an unbiased estimate of the error
            of the surrogate, which decides when to stop and calibrates the uncertainty.
        window_kt: largest predicted energy of a picked frame above the lowest labelled one, kT by internal coordinate
            (see `energy_window`); None for no limit. The audit has none.
        temperature_kelvin: temperature of this kT, at which the potential will be used, K; None: that of the
            exploration.
        regions: number of clusters of the explored geometries that count evenly, in the audit and in what is picked; 1
            lets each geometry count as often as it is visited.
    """

    rule: str = "uncertain"
    batch: int = 12
    audit: int = 6
    window_kt: float | None = None
    temperature_kelvin: float | None = None
    regions: int = 1

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {RULES}, got {self.rule!r}")
        if self.batch < 0 or self.audit < 1 or self.regions < 1:
            raise ValueError(f"batch must be 0 or more, audit and regions 1 or more; got {self}")
        if (self.window_kt is not None and self.window_kt <= 0) or (
            self.temperature_kelvin is not None and self.temperature_kelvin <= 0
        ):
            raise ValueError(f"window_kt and temperature_kelvin must be above 0; got {self}")


def worst_atom(structures: Structures, forces_std: Float[np.ndarray, "A 3"]) -> Float[np.ndarray, " M"]:
    """The uncertainty of each frame, eV/Angstrom: the largest norm of `forces_std` among its atoms."""
    length = np.sqrt((forces_std**2).sum(axis=1))
    return np.maximum.reduceat(length, structures.atom_start[:-1]) if len(structures) else np.zeros(0)


def bags(structures: Structures) -> Float[np.ndarray, "M D"]:
    """Bags of bonds without charges: inverse distances (1/Angstrom) of each pair of elements, in descending order.

    Each bag is padded with zeros to the fullest one, so that molecules of different composition can be compared. The
    descriptor is invariant under rotation, reflection, translation, and permutation of atoms of the same element.
    """
    kinds: dict[bytes, list[int]] = {}
    for m, (first, last) in enumerate(zip(structures.atom_start[:-1], structures.atom_start[1:], strict=True)):
        kinds.setdefault(structures.numbers[first:last].tobytes(), []).append(m)
    parts: list[tuple[np.ndarray, dict[int, np.ndarray]]] = []
    width: dict[int, int] = {}
    for members in kinds.values():
        rows = np.array(members)
        atoms = structures.atom_start[rows][:, None] + np.arange(structures.sizes[rows[0]])
        z, x = structures.numbers[atoms[0]].astype(int), structures.positions[atoms]
        i, j = np.triu_indices(len(z), 1)
        inverse = 1.0 / np.linalg.norm(x[:, i] - x[:, j], axis=-1)
        label = np.minimum(z[i], z[j]) * (MAX_ATOMIC_NUMBER + 1) + np.maximum(z[i], z[j])
        pair_bags = {int(k): -np.sort(-inverse[:, label == k], axis=1) for k in np.unique(label)}
        parts.append((rows, pair_bags))
        for k, bag in pair_bags.items():
            width[k] = max(width.get(k, 0), bag.shape[1])
    start = dict(zip(sorted(width), np.cumsum([0, *(width[k] for k in sorted(width))]), strict=False))
    table = np.zeros((len(structures), sum(width.values())))
    for rows, pair_bags in parts:
        for k, bag in pair_bags.items():
            table[rows, start[k] : start[k] + bag.shape[1]] = bag
    return table


def pick(
    uncertainty: Float[np.ndarray, " C"],
    descriptors: Float[np.ndarray, "C D"],
    labelled: Float[np.ndarray, "K D"],
    count: int,
) -> Int[np.ndarray, " n"]:
    """Indices of the candidates to label, in the order in which they are picked.

    Every candidate belongs to the nearest centre, which is a labelled frame or a picked one, at the distance d. The
    next pick comes from the cluster with the largest sum of (u d)^2, where u is the uncertainty, and is its member with
    the largest u d. A region therefore counts by its uncertainty, its distance from the centres, and how often the
    dynamics visits it.

    Args:
        uncertainty: uncertainty of each candidate, 0 or more.
        descriptors: descriptors of the candidates.
        labelled: descriptors of the labelled frames; without any the most uncertain candidate comes first.
        count: largest number of picks; there are fewer if all others repeat a centre or are certain.
    """
    if not len(uncertainty) or count < 1:
        return np.zeros(0, np.int64)
    picked: list[int] = []
    if len(labelled):
        far = cdist(descriptors, labelled)
        cluster, distance = far.argmin(axis=1), far.min(axis=1)
    else:
        picked.append(int(uncertainty.argmax()))
        distance = np.linalg.norm(descriptors - descriptors[picked[0]], axis=1)
        cluster = np.zeros(len(distance), np.int64)
    while len(picked) < count:
        worth = (uncertainty * distance) ** 2
        worth[picked] = 0.0
        if not worth.max() > 0:
            break
        largest = np.bincount(cluster, weights=worth).argmax()
        best = int(np.where(cluster == largest, worth, -1.0).argmax())
        picked.append(best)
        to_best = np.linalg.norm(descriptors - descriptors[best], axis=1)
        nearer = to_best < distance
        cluster = np.where(nearer, len(labelled) + len(picked), cluster)
        distance = np.minimum(distance, to_best)
    return np.array(picked, np.int64)


def regions_of(descriptors: Float[np.ndarray, "F D"], count: int, seed: int) -> Int[np.ndarray, " F"]:
    """The cluster of each frame, by k-means with at most `count` centres."""
    if count == 1 or len(descriptors) <= count:
        return np.zeros(len(descriptors), np.int64) if count == 1 else np.arange(len(descriptors))
    _, region = kmeans2(descriptors, count, minit="++", rng=np.random.default_rng(seed), missing="warn")
    return region.astype(np.int64)


def evenly(order: Int[np.ndarray, " n"], region: Int[np.ndarray, " F"]) -> Int[np.ndarray, " n"]:
    """The same rows in another order, whose first ones take in turn from every region that has rows left."""
    rank = np.zeros(len(order), np.int64)
    for one in np.unique(region[order]):
        members = np.flatnonzero(region[order] == one)
        rank[members] = np.arange(len(members))
    return order[np.argsort(rank, kind="stable")]


def choose(
    frames: Structures,
    uncertainty: Float[np.ndarray, " F"],
    uncertain: np.ndarray,
    labelled: Structures,
    config: ChoiceConfig,
    room: int,
    seed: int,
    allowed: np.ndarray | None = None,
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " a"]]:
    """Indices of the frames that the rule picks, and of those of the audit; the two are disjoint.

    Args:
        frames: explored frames.
        uncertainty: uncertainty of each frame, eV/Angstrom.
        uncertain: boolean mask of the frames that the rules of uncertainty may pick.
        labelled: frames that have labels.
        config: see `ChoiceConfig`.
        room: number of labels left in the budget; the audit is served first.
        seed: seed of the random draws.
        allowed: boolean mask of the frames that any rule may pick; None for all.
    """
    region = regions_of(bags(frames), config.regions, seed) if config.regions > 1 else np.zeros(len(frames), np.int64)
    order = evenly(np.random.default_rng(seed).permutation(len(frames)), region)
    audit = order[: min(config.audit, room)]
    rest = order[len(audit) :]
    rest = rest if allowed is None else rest[allowed[rest]]
    count = min(config.batch, room - len(audit))
    if config.rule == "random":
        return evenly(rest, region)[:count], audit
    rest = rest[uncertain[rest]]
    if config.rule == "uncertain_half":
        half = rest[uncertainty[rest] >= np.median(uncertainty[rest])] if len(rest) else rest
        return evenly(half, region)[:count], audit
    pool = np.sort(rest)
    table = bags(Structures.concatenate([frames.take(pool), labelled, frames.take(audit)]))
    # The share of a region in the sum of a cluster is the same for all regions, whatever their sizes.
    even = uncertainty[pool] / np.sqrt(np.bincount(region)[region[pool]])
    # The audit is labelled in the same round, so its frames count as labelled.
    picked = pick(even, table[: len(pool)], table[len(pool) :], count)
    return pool[picked], audit
