"""What an API server of Kubernetes keeps, as far as kr8s and the Dask operator can tell.

Objects by (group and version, plural, namespace, name), and every change to them in order. It checks nothing,
honours finalizers, and collects what has lost its owners.
"""

from __future__ import annotations

import asyncio
import copy
import datetime
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jsonpatch

Object = dict[str, Any]
Key = tuple[str, str, str, str]

# plural -> kind, of each group and version
KINDS = {
    "v1": {
        "namespaces": "Namespace",
        "pods": "Pod",
        "services": "Service",
        "secrets": "Secret",
        "configmaps": "ConfigMap",
        "serviceaccounts": "ServiceAccount",
        "events": "Event",
    },
    "apps/v1": {"deployments": "Deployment"},
    "batch/v1": {"jobs": "Job"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding"},
    "apiextensions.k8s.io/v1": {"customresourcedefinitions": "CustomResourceDefinition"},
    "kubernetes.dask.org/v1": {
        "daskclusters": "DaskCluster",
        "daskworkergroups": "DaskWorkerGroup",
        "daskjobs": "DaskJob",
        "daskautoscalers": "DaskAutoscaler",
    },
}
STATUS = {"namespaces", "pods", "services", "deployments", "jobs", "poddisruptionbudgets", "daskjobs"}
"""Plurals whose status is a subresource; of the operator's definitions only one declares it."""


class RefusedError(Exception):
    """An answer of 400 and more: code, reason, message."""


@dataclass(frozen=True)
class Change:
    """What became of an object; None for what was not, or is not any more."""

    version: int
    key: Key
    before: Object | None
    after: Object | None


class Store:
    """Everything that is kept; only the thread of the server may touch it, but for `soon`.

    Parameters
    ----------
    remembered : int
        How many changes those who watch can catch up with.
    """

    def __init__(self, remembered: int = 1000) -> None:
        self.objects: dict[Key, Object] = {}
        self.log: list[tuple[str, str, str]] = []
        """(verb, plural, name) of whatever changed something."""
        self.changed: list[Callable[[str, str, Object], None]] = []
        """Told of each change: what happened, plural, object."""
        self.refuse: set[str] = set()
        """Plurals that nobody may create."""
        self.changes: deque[Change] = deque(maxlen=remembered)
        self.version = 1
        self.news = asyncio.Event()
        """Set, and another one put in its place, at each change."""
        self.loop: asyncio.AbstractEventLoop | None = None

    def create(self, version: str, plural: str, namespace: str, made: Object) -> Object:
        """As a POST does."""
        made = copy.deepcopy(made)
        meta = made.setdefault("metadata", {})
        if "name" not in meta:
            meta["name"] = f"{meta['generateName']}{uuid.uuid4().hex[:8]}"
        key = (version, plural, namespace, meta["name"])
        if plural in self.refuse:
            raise RefusedError(
                403, "Forbidden", f"{plural} is forbidden: you cannot create it in {namespace}"
            )
        if key in self.objects:
            raise RefusedError(409, "AlreadyExists", f'{plural} "{meta["name"]}" already exists')
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now, "namespace": namespace, "generation": 1}
        made |= {"apiVersion": version, "kind": KINDS[version][plural]}
        if plural == "services":
            made["spec"] |= {"clusterIP": "10.0.0.1"}
            made["status"] = {"loadBalancer": {}}
        self._keep("create", key, made)
        if self.loop is not None:
            # after its owners, or for owners that are gone
            self.loop.call_soon(self._collect, key)
        return made

    def patch(self, key: Key, change: Object | list[Any], part: str = "") -> Object:
        """A merge patch (RFC 7386) or a JSON patch (RFC 6902) of an object or its status."""
        old = self.objects[key]
        if isinstance(change, list):
            try:
                made = jsonpatch.apply_patch(old, change)
            except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
                raise RefusedError(422, "Invalid", str(error)) from None
        else:
            made = _merge(old, change)
        if made["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
            raise RefusedError(409, "Conflict", f"{key[1]} {key[3]}: the object has been modified")
        if key[1] in STATUS:
            # each of the two ways leaves alone what is the other's
            whole = made if part != "status" else old
            status = made if part == "status" else old
            made = {k: v for k, v in whole.items() if k != "status"}
            made |= {"status": status["status"]} if "status" in status else {}
        if "deletionTimestamp" in made["metadata"] and not made["metadata"].get("finalizers"):
            self._remove(key)
            return made
        if made == old:
            return old
        made = copy.deepcopy(made)
        if _essence(made, key) != _essence(old, key):
            made["metadata"]["generation"] += 1
        return self._keep("patch", key, made)

    def soon(self, key: Key, change: Object) -> None:
        """`patch` from another thread, if the object is there then."""

        def apply() -> None:
            if key in self.objects:
                self.patch(key, change, part="status")

        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(apply)

    def delete(self, key: Key) -> None:
        """At once, or when its finalizers are gone."""
        found = self.objects[key]
        if not found["metadata"].get("finalizers"):
            self._remove(key)
        elif "deletionTimestamp" not in found["metadata"]:
            found = copy.deepcopy(found)
            found["metadata"]["deletionTimestamp"] = "2000-01-01T00:00:00Z"
            self._keep("delete", key, found)

    def _keep(self, verb: str, key: Key, made: Object) -> Object:
        before = self.objects.get(key)
        self.version += 1
        made["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = made
        self.log.append((verb, key[1], key[3]))
        self._tell(Change(self.version, key, before, made))
        return made

    def _remove(self, key: Key) -> None:
        gone = self.objects.pop(key)
        self.version += 1
        self.log.append(("gone", key[1], key[3]))
        self._tell(Change(self.version, key, gone, None))
        uid = gone["metadata"]["uid"]
        for other, found in list(self.objects.items()):
            if any(o["uid"] == uid for o in found["metadata"].get("ownerReferences", ())):
                self._collect(other)

    def _collect(self, key: Key) -> None:
        """As the garbage collector: what has had owners, and has none that is there, goes."""
        owners = self.objects.get(key, {}).get("metadata", {}).get("ownerReferences", ())
        there = {o["metadata"]["uid"] for o in self.objects.values()}
        if owners and not any(o["uid"] in there for o in owners):
            self.delete(key)

    def _tell(self, change: Change) -> None:
        self.changes.append(change)
        self.news.set()
        self.news = asyncio.Event()
        what = "DELETED" if change.after is None else "ADDED" if change.before is None else "MODIFIED"
        for listener in self.changed:
            listener(what, change.key[1], change.after or change.before or {})


def _essence(found: Object, key: Key) -> Object:
    """What counts in an object's generation."""
    apart = {"metadata", "status"} if key[1] in STATUS else {"metadata"}
    return {k: v for k, v in found.items() if k not in apart}


def _merge(old: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    made = dict(old) if isinstance(old, dict) else {}
    for key, value in change.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = _merge(made.get(key), value)
    return made
