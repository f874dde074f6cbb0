"""dask-kubernetes' own cluster manager, taught TLS.

Heavy at the top, because the class stands on one of dask-kubernetes':
the one function that needs it imports it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from dask_kubernetes.operator import KubeCluster
from dask_kubernetes.operator._objects import DaskCluster
from dask_kubernetes.operator.kubecluster.kubecluster import CreateMode, wait_for_service
from dask_kubernetes.operator.networking import get_scheduler_address, wait_for_scheduler
from distributed import Security, rpc


class OperatorCluster(KubeCluster):  # type: ignore[misc] # the library ships no types
    """A KubeCluster whose scheduler speaks TLS.

    KubeCluster asks schedulers in plain words only, and would ask one that speaks TLS without end; how it
    gets to the scheduler, and how it ends the cluster, stay as they are.

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
        super().__init__(
            custom_cluster_spec=manifest,
            namespace=manifest["metadata"]["namespace"],
            create_mode=CreateMode.CREATE_ONLY,
            shutdown_on_close=True,
            resource_timeout=round(timeout),
            # outside, the names of services mean nothing, and looking for them takes ten seconds each
            port_forward_cluster_ip="KUBERNETES_SERVICE_HOST" not in os.environ,
            quiet=True,
        )

    async def _create_cluster(self) -> None:
        cluster = await DaskCluster(self._custom_cluster_spec, namespace=self.namespace)
        await cluster.create()
        async with asyncio.timeout(self._patience):
            await self._wait_for_controller()
            await wait_for_scheduler(self.name, self.namespace, timeout=self._patience)
            service = f"{self.name}-scheduler"
            await wait_for_service(service, self.namespace)
            address = await self._get_scheduler_address()
            connection: dict[str, Any] = {}
            if self.security is not None:
                address = address.replace("tcp://", "tls://")
                connection = self.security.get_connection_args("client")
            self.scheduler_comm = rpc(address, connection_args=connection)
            dashboard = await get_scheduler_address(
                service,
                self.namespace,
                port_name="http-dashboard",
                port_forward_cluster_ip=self.port_forward_cluster_ip,
            )
        self.forwarded_dashboard_port = dashboard.rpartition(":")[2]
