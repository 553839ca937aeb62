"""A mesh around a body in a channel, as text for blockMesh.

The mesh has twelve blocks: four fit the body, and eight fill the channel. Counts of cells are settings, and only sizes
depend on the parameters, so that drag and lift are continuous functions of the parameters.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

#: Thickness of the mesh in the third direction, along which the flow is uniform, m.
DEPTH = 0.1
#: Ratio of the last to the first cell size from the body outwards.
STRETCH = 4.0
#: South-west, south-east, north-east, north-west.
_CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def around(
    shape: str,
    centre: tuple[float, float],
    half: tuple[float, float],
    channel: tuple[float, float],
    gap: float,
    cells: int,
) -> dict[str, str]:
    """Vertices, blocks, edges and faces of the patches inlet, outlet, walls and body, as text for blockMesh.

    Args:
        shape: "ellipse" or "rectangle".
        centre: centre of the body, m.
        half: half of the body's width and height, m.
        channel: length and height of the channel, m.
        gap: smallest distance between the body's box and the edge of the channel, m.
        cells: cells along each side of the body and from it outwards; all other counts follow from it.

    Vertices 0 to 15 are a grid of 4 x 4 lines, whose middle box surrounds the body; 16 to 19 are on the body. Those of
    the other plane follow in the same order.
    """
    ring = min(gap / 2, max(half))
    xs = (0.0, centre[0] - half[0] - ring, centre[0] + half[0] + ring, channel[0])
    ys = (0.0, centre[1] - half[1] - ring, centre[1] + half[1] + ring, channel[1])
    out = math.sqrt(0.5) if shape == "ellipse" else 1.0
    corners = [(centre[0] + i * out * half[0], centre[1] + j * out * half[1]) for i, j in _CORNERS]
    plane = [(x, y) for y in ys for x in xs] + corners
    count = len(plane)
    vertices = [f"    ({x:.15g} {y:.15g} {z:g})" for z in (0, DEPTH) for x, y in plane]

    radial = cells
    # The outer blocks begin with the size of the ring's last cell.
    q = STRETCH ** (1 / (radial - 1))
    last = ring * STRETCH * (q - 1) / (q**radial - 1)
    counts_x = (cells, cells, 3 * cells)
    counts_y = (cells // 2, cells, cells // 2)
    grade_x = (1 / _stretch(xs[1], counts_x[0], last), 1.0, _stretch(xs[3] - xs[2], counts_x[2], last))
    grade_y = (1 / _stretch(ys[1], counts_y[0], last), 1.0, _stretch(ys[3] - ys[2], counts_y[2], last))

    def block(a: int, b: int, c: int, d: int, nx: int, ny: int, gx: float, gy: float) -> str:
        nodes = " ".join(str(v + z) for z in (0, count) for v in (a, b, c, d))
        return f"    hex ({nodes}) ({nx} {ny} 1) simpleGrading ({gx:.15g} {gy:.15g} 1)"

    def node(i: int, j: int) -> int:
        return i + 4 * j

    blocks = [
        block(
            node(i, j),
            node(i + 1, j),
            node(i + 1, j + 1),
            node(i, j + 1),
            counts_x[i],
            counts_y[j],
            grade_x[i],
            grade_y[j],
        )
        for j in range(3)
        for i in range(3)
        if (i, j) != (1, 1)
    ]
    box = [node(1, 1), node(2, 1), node(2, 2), node(1, 2)]
    for k in range(4):
        after = (k + 1) % 4
        blocks.append(block(box[k], box[after], 16 + after, 16 + k, cells, radial, 1.0, 1 / STRETCH))

    edges = []
    if shape == "ellipse":
        for k in range(4):
            turns = (-0.75 + 0.5 * k + np.linspace(0, 0.5, 33)[1:-1]) * math.pi
            for z, shift in ((0.0, 0), (DEPTH, count)):
                along = " ".join(
                    f"({centre[0] + half[0] * math.cos(t):.15g} {centre[1] + half[1] * math.sin(t):.15g} {z:g})"
                    for t in turns
                )
                edges.append(f"    spline {16 + k + shift} {16 + (k + 1) % 4 + shift} ({along})")

    def face(a: int, b: int) -> str:
        return f"({a} {b} {b + count} {a + count})"

    return {
        "vertices": "\n".join(vertices),
        "blocks": "\n".join(blocks),
        "edges": "\n".join(edges),
        "inlet": " ".join(face(node(0, j + 1), node(0, j)) for j in range(3)),
        "outlet": " ".join(face(node(3, j), node(3, j + 1)) for j in range(3)),
        "walls": " ".join(
            [face(node(i, 0), node(i + 1, 0)) for i in range(3)] + [face(node(i + 1, 3), node(i, 3)) for i in range(3)]
        ),
        "body": " ".join(face(16 + (k + 1) % 4, 16 + k) for k in range(4)),
    }


def _stretch(length: float, cells: int, first: float) -> float:
    """Last over first size in a geometric series of `cells` sizes that begins with `first` and fills `length`."""

    def excess(q: float) -> float:
        return first * (cells if abs(q - 1) < 1e-12 else (q**cells - 1) / (q - 1)) - length

    low, high = 0.5, 2.0
    if excess(low) > 0 or excess(high) < 0:
        return 1.0
    return float(brentq(excess, low, high, xtol=1e-13)) ** (cells - 1)
