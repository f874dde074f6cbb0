"""Role-based access control, as far as roles of one namespace go."""

from __future__ import annotations

from apiobjects import Key, Object, Store  # type: ignore[import-not-found]

RBAC = "rbac.authorization.k8s.io/v1"


class Rights:
    """Who may do what, by token; a token that nobody has been given may do everything.

    Parameters
    ----------
    store : Store
        Where Roles and RoleBindings are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.people: dict[str, tuple[str, list[Object]]] = {}
        """Namespace and rules of somebody's role."""
        self.accounts: dict[str, tuple[str, str]] = {}
        """Namespace and name of a service account."""

    def allowed(self, token: str, verb: str, key: Key) -> bool:
        """Whether whoever has a token may ``"get"`` an object, or ``pods/portforward`` of one."""
        if token in self.people:
            namespace, rules = self.people[token]
        elif token in self.accounts:
            namespace, name = self.accounts[token]
            rules = self._bound(namespace, name)
        else:
            return True
        group = key[0].rpartition("/")[0]
        return namespace == key[2] and any(
            group in rule["apiGroups"]
            and key[1] in rule["resources"]
            and verb in rule["verbs"]
            and key[3] in rule.get("resourceNames", [key[3]])
            for rule in rules
        )

    def _bound(self, namespace: str, account: str) -> list[Object]:
        kept = self._store.objects
        bindings = [o for k, o in kept.items() if k[1:3] == ("rolebindings", namespace)]
        return [
            rule
            for bound in bindings
            if (namespace, account) in [(s["namespace"], s["name"]) for s in bound["subjects"]]
            for rule in kept[RBAC, "roles", namespace, bound["roleRef"]["name"]]["rules"]
        ]
