"""Manifests as they lie in k8s/, as the code makes them, and what is expected of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from beside import load

from batch import config
from batch.runtime import kubernetes

HERE = Path(__file__).parent
K8S = Path(__file__).resolve().parents[3] / "k8s"
VARIANTS = load(HERE / "variants.py").VARIANTS
FOLDERS = ("base", *(f"overlays/{name}" for name in VARIANTS))


@pytest.fixture(scope="session")
def kustomize() -> ModuleType:
    return load(HERE / "kustomize.py")


@pytest.fixture(scope="session")
def rendered(kustomize: ModuleType) -> dict[str, list[dict[str, Any]]]:
    """By folder of k8s/."""
    return {name: kustomize.render(K8S / name) for name in FOLDERS}


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def documents(rendered: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    return list(rendered[folder])


def build(folder: str) -> dict[str, list[dict[str, Any]]]:
    """What the code makes of the settings of a folder, by file of the base."""
    _, work, changes = VARIANTS.get(folder.rpartition("/")[2], ("", "/work/run", []))
    return kubernetes.static(config.load(None, [*kubernetes.BASE, *changes]), work)


@pytest.fixture
def built(folder: str) -> list[dict[str, Any]]:
    return [d for file in build(folder).values() for d in file]


@pytest.fixture
def base() -> dict[str, list[dict[str, Any]]]:
    """What the code makes of the settings of k8s/base, by file."""
    return build("base")


@pytest.fixture(scope="session")
def pods() -> Any:
    """Every pod in some documents: where it is, and its metadata and spec."""

    def find(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        for document in documents:
            kind, spec = document["kind"], document.get("spec", {})
            if kind == "Job":
                template = spec["template"]
                yield "driver", template["metadata"], template["spec"]
            elif kind == "DaskCluster":
                yield "scheduler", spec["scheduler"]["metadata"], spec["scheduler"]["spec"]
                yield "worker", spec["worker"]["metadata"], spec["worker"]["spec"]
            elif kind == "DaskWorkerGroup":
                yield "worker", spec["worker"]["metadata"], spec["worker"]["spec"]

    return find
