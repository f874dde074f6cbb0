"""dask-kubernetes' own cluster manager, taught TLS and patience.

Heavy at the top, because the class stands on one of dask-kubernetes':
the one function that needs it imports it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

from dask_kubernetes.operator import KubeCluster
from dask_kubernetes.operator._objects import DaskCluster
from dask_kubernetes.operator.kubecluster.kubecluster import CreateMode, wait_for_service
from dask_kubernetes.operator.networking import wait_for_scheduler
from distributed import Security, rpc
from kr8s.asyncio.objects import Service

from batch.runtime.manifests import DASHBOARD_PORT, SCHEDULER_PORT

_CLOSING_S = 10


class OperatorCluster(KubeCluster):  # type: ignore[misc] # the library ships no types
    """A KubeCluster whose scheduler speaks TLS.

    KubeCluster asks schedulers in plain words only, and would ask one that speaks TLS without end. It waits
    until the operator calls the cluster Running; of the operator's two handlers that write the phase, the one
    that writes Pending may come last, and then Pending it stays (dask-kubernetes issue 968). And its
    port-forwards are threads that nothing ends, waited for while the loop stands still. How it ends the
    cluster stays as it is.

    Parameters
    ----------
    manifest : dict
        The DaskCluster; it must not be there yet.
    security : Security or None
        Certificates; None for plain connections.
    timeout : float
        Seconds for the scheduler to come up.

    Raises
    ------
    TimeoutError
        If it does not.
    ValueError
        If there is a cluster of that name.
    """

    def __init__(self, manifest: dict[str, Any], security: Security | None, timeout: float) -> None:
        self.security = security
        self._patience = timeout
        self._forwards = contextlib.AsyncExitStack()
        super().__init__(
            custom_cluster_spec=manifest,
            namespace=manifest["metadata"]["namespace"],
            create_mode=CreateMode.CREATE_ONLY,
            shutdown_on_close=True,
            resource_timeout=round(timeout),
            quiet=True,
        )

    async def _start(self) -> None:
        try:
            await super()._start()
        except BaseException:
            # whoever wanted it takes it away, not the library when the interpreter ends
            self._instances.discard(self)
            await self._forwards.aclose()
            raise

    async def _create_cluster(self) -> None:
        cluster = await DaskCluster(self._custom_cluster_spec, namespace=self.namespace)
        await cluster.create()
        async with asyncio.timeout(self._patience):
            await wait_for_scheduler(self.name, self.namespace, timeout=self._patience)
            await wait_for_service(f"{self.name}-scheduler", self.namespace)
            address = await self._way_to(SCHEDULER_PORT)
            dashboard = await self._way_to(DASHBOARD_PORT)
        protocol, connection = "tcp", {}
        if self.security is not None:
            protocol, connection = "tls", self.security.get_connection_args("client")
        self.scheduler_comm = rpc(f"{protocol}://{address}", connection_args=connection)
        self.forwarded_dashboard_port = dashboard.rpartition(":")[2]

    async def _way_to(self, port: int) -> str:
        """Host and port of one of the scheduler's ports: its service, or from outside a port-forward."""
        name = f"{self.name}-scheduler"
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            return f"{name}.{self.namespace}.svc:{port}"
        service = await Service.get(name, namespace=self.namespace)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            local = free.getsockname()[1]
        await self._forwards.enter_async_context(service.portforward(port, local_port=local))
        return f"127.0.0.1:{local}"

    async def _close(self, timeout: float = 3600) -> None:
        try:
            await super()._close(timeout)
        finally:
            # from Python 3.12 on a server waits for whoever is still connected
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._forwards.aclose(), _CLOSING_S)
