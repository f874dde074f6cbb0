"""Settings of Dask: the same in this process, in pods and in containers."""

from __future__ import annotations

from pathlib import Path

import dask.config
import yaml

from batch.runtime import scheduling

ROOT = Path(__file__).resolve().parents[3]


def test_dask_reads_from_the_environment_what_is_set_here() -> None:
    read = dask.config.collect_env(scheduling.environment())
    with dask.config.set(scheduling.SETTINGS):
        for name in scheduling.SETTINGS:
            assert dask.config.get(name, config=read) == dask.config.get(name), name


def test_compose_says_the_same() -> None:
    made = yaml.safe_load((ROOT / "containers" / "compose.yaml").read_text())
    for service in ("scheduler", "worker"):
        assert made["services"][service]["environment"].items() >= scheduling.environment().items()
