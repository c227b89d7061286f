"""`python -m loadtest.chaos.placed_shard <shard> <node name>`: what Ray hosts as a checkout shard, ended and placed anew.

The named actor is killed for good. Where a node is named, another is made under the same name from the same arguments, on that
node; where Ray later loses the node, it starts the next copy elsewhere by itself. Where none is named, it is made by nobody.
What came of it is a line of JSON: {"pid": .., "node": ".."}.

Invariant: the arguments are those of the product's own servers, so that a server that finds the name finds its shard.
"""

import contextlib
import json
import sys
import time
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import ray_cluster
from actors.front import slots_of_shard
from loadtest.chaos.reachable_shard import LOOK_EVERY_S, ReachableShard
from zerosum.errors import Bug
from zerosum.settings import Settings

FACTORY: Final = "servers.wiring:payment_host"
PLACINGS_MAX: Final = 10
TRIES_MAX: Final = 400
"""Of anything, 50 ms apart: 20 s. A server that finds its shard gone makes one itself at once, which is killed in its turn."""


def main(shard: int, node_name: str) -> None:
    """See above. Raises Unavailable, Bug."""
    settings = Settings()
    ray_cluster.join(settings.ray_address, settings.deployment)
    name = f"payment-{shard}-of-{settings.checkout_shards}"
    space = ray_cluster.namespace(settings.deployment)
    if not node_name:
        ray.kill(ray.get_actor(name, namespace=space), no_restart=True)
        sys.stdout.write(json.dumps({"pid": 0, "node": ""}) + "\n")
        return
    node, arguments = _node(node_name), (FACTORY, settings, slots_of_shard(shard, settings.checkout_shards))
    pid, there = _whereabouts(_placed(name, space, node, arguments))
    for _ in range(PLACINGS_MAX):  # a head that has not heard of the node's resources yet places it elsewhere
        if there == node:
            break
        pid, there = _whereabouts(_placed(name, space, node, arguments))
    sys.stdout.write(json.dumps({"pid": pid, "node": node_name if there == node else ""}) + "\n")


def _node(name: str) -> str:
    """The id of the node that is called so, once the head knows of it."""
    for _ in range(TRIES_MAX):
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's own lack of types
        if found := [each["NodeID"] for each in nodes if each["NodeName"] == name and each["Alive"]]:
            return str(found[0])
        time.sleep(LOOK_EVERY_S)
    raise Bug(f"there is no node named {name}")


def _placed(name: str, space: str, node: str, arguments: tuple[Any, ...]) -> Any:
    """The actor under this name, made by us: whoever else makes one first is killed."""
    there = NodeAffinitySchedulingStrategy(node_id=node, soft=True)
    limits = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 0, "max_concurrency": 1_000}
    reachable: Any = ray.remote(ReachableShard)
    options = {"name": name, "namespace": space, "lifetime": "detached", "scheduling_strategy": there, **limits}
    for _ in range(TRIES_MAX):
        with contextlib.suppress(ValueError):  # nobody has that name
            ray.kill(ray.get_actor(name, namespace=space), no_restart=True)
        try:
            return reachable.options(**options).remote(*arguments)
        except ValueError:  # a server was faster
            time.sleep(LOOK_EVERY_S)
    raise Bug(f"{name} could not be had")


def _whereabouts(actor: Any) -> tuple[int, str]:
    """Its process and its node, by its own word. Ray may have been asked to lose calls."""
    for _ in range(TRIES_MAX):
        try:
            pid, node = ray.get(actor.whereabouts.remote(), timeout=60.0)
            return int(pid), str(node)
        except (ray.exceptions.RayError, TimeoutError):
            time.sleep(LOOK_EVERY_S)
    raise Bug("the shard does not say where it is")


if __name__ == "__main__":
    main(int(sys.argv[1]), next(iter(sys.argv[2:]), ""))
