"""Units of atmospheric variables as files spell them, and the conversions between them.

A spelling means one unit or none: what is not in the tables is compared as it is written, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Spelling without case, signs of powers and double blanks -> the unit.
SPELLINGS: Mapping[str, str] = {
    spelling: unit
    for unit, spellings in {
        "K": ("k", "kelvin", "kelvins", "degk", "deg k", "deg_k", "degree_k", "degrees_k", "degreesk", "degree kelvin",
              "degrees kelvin"),
        "degC": ("degc", "deg c", "deg_c", "celsius", "degree_celsius", "degrees_celsius", "degree celsius",
                 "degrees celsius", "degree_c", "degrees_c", "degreesc", "degreec", "°c", "c"),
        "Pa": ("pa", "pascal", "pascals", "n m-2"),
        "hPa": ("hpa", "mb", "mbar", "mbars", "millibar", "millibars", "hectopascal", "hectopascals"),
        "kPa": ("kpa", "kilopascal", "kilopascals"),
        "m": ("m", "meter", "meters", "metre", "metres", "m of water equivalent", "m of water"),
        "cm": ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
        "mm": ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "kg m-2", "kg/m2"),
        "gpm": ("gpm", "geopotential meter", "geopotential meters", "geopotential metres"),
        "m s-1": ("m s-1", "m/s", "m.s-1", "meter/second", "meters/second", "metre/second", "metres/second",
                  "meters per second", "metres per second", "m sec-1", "m/sec"),
        "knot": ("knot", "knots", "kt", "kts", "kn"),
        "km h-1": ("km/h", "km h-1", "kmh", "kph", "km/hr"),
        "m2 s-2": ("m2 s-2", "m2/s2", "m2.s-2", "j kg-1", "j/kg"),
        "Pa s-1": ("pa s-1", "pa/s", "pa.s-1"),
        "s-1": ("s-1", "1/s", "/s"),
        "kg kg-1": ("kg kg-1", "kg/kg", "kg.kg-1"),
        "g kg-1": ("g kg-1", "g/kg", "g.kg-1"),
        "1": ("1", "", "(0-1)", "0-1", "dimensionless", "fraction", "none", "-", "(0 - 1)", "0 - 1"),
        "%": ("%", "percent"),
    }.items()
    for spelling in spellings
}  # fmt: skip
#: (unit of the file, unit that is needed) -> the factor and the offset that bring one to the other.
CONVERSIONS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("degC", "K"): (1.0, 273.15),
    ("hPa", "Pa"): (100.0, 0.0), ("kPa", "Pa"): (1000.0, 0.0), ("Pa", "hPa"): (0.01, 0.0), ("kPa", "hPa"): (10.0, 0.0),
    # Standard gravity, of the third General Conference on Weights and Measures, 1901.
    ("gpm", "m2 s-2"): (9.80665, 0.0), ("m", "m2 s-2"): (9.80665, 0.0),
    # A kilogram of water a square metre is a millimetre of it.
    ("mm", "m"): (1e-3, 0.0), ("cm", "m"): (1e-2, 0.0),
    ("g kg-1", "kg kg-1"): (1e-3, 0.0), ("1", "kg kg-1"): (1.0, 0.0), ("%", "1"): (1e-2, 0.0),
    ("knot", "m s-1"): (1852 / 3600, 0.0), ("km h-1", "m s-1"): (1 / 3.6, 0.0),
}  # fmt: skip


def unit_of(spelling: str) -> str:
    """The unit that a spelling means; one that is not known comes back as it is written, without double blanks."""
    text = " ".join(spelling.replace("**", "").replace("^", "").split())
    return SPELLINGS.get(text.lower(), text)


def same_units(first: str, second: str) -> bool:
    """Whether two spellings mean one unit: "m s**-1", "m/s" and "m s-1" do."""
    return unit_of(first) == unit_of(second)


def conversion(spelling: str, unit: str) -> tuple[float, float] | None:
    """The factor and the offset from the unit of a file to a needed unit; None where there is no conversion."""
    stated = unit_of(spelling)
    return (1.0, 0.0) if stated == unit_of(unit) else CONVERSIONS.get((stated, unit))


def is_rate(spelling: str) -> bool:
    """Whether a unit is a rate, such as "mm/h" or "kg m-2 s-1", and not an amount."""
    return re.search(r"(/|\bper )\s*(h|hr|hour|day|d|s|sec)\b|\b(h|hr|hour|day|d|s)-1\b", unit_of(spelling)) is not None
