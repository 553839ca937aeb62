"""What files call variables and dims of the atmosphere, and what WeatherBench 2 calls them."""

from __future__ import annotations

from collections.abc import Mapping

from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, TIME

#: Names of dims that files use.
DIMS: Mapping[str, str] = {
    "lat": LATITUDE, "lon": LONGITUDE, "isobaricInhPa": LEVEL, "pressure_level": LEVEL, "plev": LEVEL, "lev": LEVEL,
    "valid_time": TIME, "isobaricInPa": LEVEL,
}  # fmt: skip
#: Short names of ECMWF and of CMIP, on levels and at the surface.
ON_LEVELS: Mapping[str, str] = {
    "t": "temperature", "z": "geopotential", "u": "u_component_of_wind", "v": "v_component_of_wind",
    "w": "vertical_velocity", "q": "specific_humidity", "vo": "vorticity", "d": "divergence",
    "ta": "temperature", "zg": "geopotential", "ua": "u_component_of_wind", "va": "v_component_of_wind",
    "wap": "vertical_velocity", "hus": "specific_humidity",
}  # fmt: skip
AT_SURFACE: Mapping[str, str] = {
    "t2m": "2m_temperature", "2t": "2m_temperature", "u10": "10m_u_component_of_wind", "msl": "mean_sea_level_pressure",
    "10u": "10m_u_component_of_wind", "v10": "10m_v_component_of_wind", "10v": "10m_v_component_of_wind",
    "sp": "surface_pressure", "sst": "sea_surface_temperature", "z": "geopotential_at_surface", "lsm": "land_sea_mask",
    "tp": "total_precipitation",
    "tas": "2m_temperature", "uas": "10m_u_component_of_wind", "vas": "10m_v_component_of_wind",
    "psl": "mean_sea_level_pressure", "ps": "surface_pressure",
}  # fmt: skip
#: Short names by which variables may be asked for.
SHORT_NAMES: Mapping[str, str] = {**AT_SURFACE, **ON_LEVELS}
