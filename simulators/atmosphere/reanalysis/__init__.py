"""Reanalysis and model output through xarray: CF conventions, selection, joining and regridding."""
