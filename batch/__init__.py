"""Batch reduction of Hubble ACS exposures on Dask: from raw files to a chosen, documented mosaic."""

__version__ = "0.1.0"
