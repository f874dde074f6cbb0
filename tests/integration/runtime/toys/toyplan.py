"""The plan of the toy pipeline."""

from __future__ import annotations

import importlib

from batch.model.drizzle import combinations
from batch.model.observation import Association, Exposure
from batch.model.plan import Plan, expand


def exposure(name: str) -> Exposure:
    return Exposure(name, "WFC", "WFC1-1K", "A", ("F606W",), 339.0, 53900.0, (1024, 2072), 1, "1-1")


def toy_plan(associations: int = 2, exposures: int = 3, pixfracs: tuple[float, ...] = (0.5, 1.0)) -> Plan:
    """`associations` x `exposures` toy exposures; every name is distinct."""
    chain = [
        importlib.import_module(f"toystages.{n}").STAGE for n in ("single", "gather", "spread", "finish")
    ]
    made = tuple(
        Association(f"asn{a}", tuple(exposure(f"j{a:04d}x{e:02d}q") for e in range(exposures)))
        for a in range(associations)
    )
    return Plan(made, expand(chain, made, {}, combinations(pixfracs)), {})
