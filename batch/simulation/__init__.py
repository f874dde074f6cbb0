"""Simulated visits with known truth: raw exposures, reference files and a CRDS cache for `demo` and the tests.

`visit.simulate` makes one; everything that decides its bytes is in `visit.VisitSettings`.
"""
