"""From a plan to finished tasks: planning, the cluster, the graph, one task on one worker."""
