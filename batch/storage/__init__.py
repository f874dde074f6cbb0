"""The work directory, the ledger read off it, and FITS files."""
