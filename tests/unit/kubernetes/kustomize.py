"""As much of kustomize as k8s/ uses: resources, JSON patches by kind and name, deletions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """What ``kubectl kustomize FOLDER`` prints."""
    [what] = load(folder / "kustomization.yaml")
    assert set(what) <= {"apiVersion", "kind", "resources", "patches"}, "this part of kustomize is not here"
    made = []
    for name in what["resources"]:
        path = folder / name
        made += render(path) if path.is_dir() else load(path)
    for entry in what.get("patches", ()):
        assert set(entry) == {"target", "patch"}
        made = patched(made, entry["target"], yaml.safe_load(entry["patch"]))
    return made


def load(path: Path) -> list[Manifest]:
    """The documents in a file."""
    return list(yaml.safe_load_all(path.read_text()))


def patched(documents: list[Manifest], target: Manifest, patch: Any) -> list[Manifest]:
    """Documents with a patch applied to the one it is for."""
    hit = [d for d in documents if (d["kind"], d["metadata"]["name"]) == (target["kind"], target["name"])]
    assert len(hit) == 1, target
    if isinstance(patch, dict):
        assert patch["$patch"] == "delete"
        return [d for d in documents if d is not hit[0]]
    new = copy.deepcopy(hit[0])
    for step in patch:
        _apply(new, step)
    return [new if d is hit[0] else d for d in documents]


def _apply(document: Any, step: Manifest) -> None:
    """One operation of RFC 6902."""
    *parents, last = (p.replace("~1", "/").replace("~0", "~") for p in step["path"].split("/")[1:])
    for parent in parents:
        document = document[int(parent)] if isinstance(document, list) else document[parent]
    key = int(last) if isinstance(document, list) else last
    if step["op"] == "add":
        assert isinstance(document, dict)
        assert key not in document
        document[key] = step["value"]
    elif step["op"] == "remove":
        del document[key]
    else:
        assert step["op"] == "replace"
        document[key]  # it must be there
        document[key] = step["value"]
