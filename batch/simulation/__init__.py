"""Simulated visits with known truth, for `demo` and the tests.

`visit.simulate` writes raw exposures, their reference files, a CRDS cache and the truth; everything that
decides the bytes is in `visit.VisitSettings`.
"""
