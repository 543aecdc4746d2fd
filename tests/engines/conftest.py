"""One Ray cluster for all tests: a head that does no work, and nodes of one processor each that come and go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One cluster at a time: two processes of the whole suite would each start one, and wait for the other's cores."""
    if hasattr(config, "workerinput"):
        for item in items:
            if "engines" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="one cluster at a time: make engines"))


class Nodes:
    """The nodes of a cluster that work."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.nodes: list[Any] = []

    def set(self, count: int) -> None:
        """So many of them."""
        while len(self.nodes) > count:
            self.cluster.remove_node(self.nodes.pop())
        if len(self.nodes) < count:
            self.nodes += [self.cluster.add_node(**NODE, wait=False) for _ in range(count - len(self.nodes))]
            self.cluster.wait_for_nodes()

    def replace_all(self) -> None:
        """Lose all of them in an instant, with what they hold, where new ones are there by then."""
        lost, self.nodes = self.nodes, []
        self.set(len(lost))
        for node in lost:
            self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 200 << 20}
    # a node that was killed is known to be dead in seconds
    health = {"health_check_period_ms": 1000, "health_check_failure_threshold": 4, "health_check_initial_delay_ms": 0}
    found = Cluster(
        initialize_head=True, head_node_args={**head, "ray_client_server_port": 25001, "_system_config": health}
    )
    yield found
    found.shutdown()


@pytest.fixture(scope="session")
def nodes(cluster: Any) -> Iterator[Nodes]:
    import ray

    found = Nodes(cluster)
    found.set(1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield found
    ray.shutdown()
