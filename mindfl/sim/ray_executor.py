"""Clients spread over a Ray cluster: one worker process per node, models broadcast once, sums instead of models back.

Each iteration, every node trains its share of the clients under an :class:`~mindfl.server.EdgeCoordinator` with the
same thread pool as a local run, and returns the exact sum of their uploads; the one coordinator absorbs the sums, each
client once. So the weights are bitwise those of a local run, however the clients are spread. A node that is lost before
its sum was absorbed has its share trained elsewhere; afterwards only the evaluation is done again.
"""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mindfl.algorithms.client_algorithm import with_algorithm
from mindfl.algorithms.naming import make_algorithm
from mindfl.client import InProcessTransport, Traffic
from mindfl.data import Dataset
from mindfl.errors import OptionError, SimulationError
from mindfl.imports import lacks
from mindfl.lite import LiteModel, use_operators
from mindfl.modes import mode_of
from mindfl.server import Coordinator, EdgeCoordinator, Part
from mindfl.sim.client_memory import Memories
from mindfl.sim.client_pool import ClientPool
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Engine, LiteEngine, Weights
from mindfl.sim.evaluation import Measured
from mindfl.sim.executors import Report, given_model
from mindfl.sim.job_data import central_parts
from mindfl.sim.participant import ClientResult, now_ms
from mindfl.sim.upload_mode import server_settings

Share = tuple[int, ...]
#: seconds until a cluster's address counts as unreachable
CONNECT_TIMEOUT = 5.0


@dataclass(frozen=True)
class NodeSetup:
    """Input of a node before its first iteration. Every node must have the work folder and the folder of a data set on
    disk; a data set in memory is shared by the processes of a machine."""

    config: JobConfig
    model: bytes
    dataset: Dataset
    clients: tuple[str, ...]


@dataclass(frozen=True)
class _Trained:
    """Result of training a share of the clients: the sum of their uploads, mean loss, traffic, and ``memories`` with
    the arrays that they remember of it."""

    part: Part
    loss: float
    traffic: Traffic
    memories: Memories


class RayNode:
    """The part of the job on one node of the cluster; runs inside a Ray actor."""

    def __init__(self, setup: NodeSetup, threads: int) -> None:
        self._setup = setup
        self._config = setup.config.derived(workers=threads)
        self._shares: dict[Share, tuple[EdgeCoordinator, InProcessTransport, Memories]] = {}

    # Made on first use and not by the constructor, whose errors would look like the loss of a node.
    @cached_property
    def _engine(self) -> Engine:
        use_operators(self._config.operator)
        engine = LiteEngine(LiteModel.from_bytes(self._setup.model), metric=self._config.metric)
        return with_algorithm(engine, make_algorithm(self._config.algorithm), len(self._setup.clients))

    @cached_property
    def _pool(self) -> ClientPool:
        return ClientPool(self._config, self._engine, self._setup.dataset, self._setup.clients)

    def train(self, iteration: int, rate: float, model: Weights, share: Share, memories: Memories) -> _Trained:
        """Train a share of the clients with the round's learning rate and their memories, and sum their uploads."""
        keep = make_algorithm(self._config.algorithm).needs_uploads
        settings = replace(server_settings(self._config, len(share)), client_learning_rate=rate)
        edge = EdgeCoordinator(settings, model, iteration, keep_uploads=keep)
        transport = InProcessTransport(edge)
        losses: list[float] = []
        self._pool.memories = memories
        self._pool.advance(share, transport, losses.append)
        self._shares[share] = (edge, transport, memories)
        return _Trained(edge.part(), float(np.mean(losses)), transport.traffic, memories)

    def end(self, model: Weights, share: Share) -> tuple[list[ClientResult], Traffic]:
        """Give the share's clients, trained here, the new model; return their results and the traffic of that."""
        edge, transport, self._pool.memories = self._shares.pop(share)
        before = transport.traffic
        edge.publish(model, now_ms())
        return self._pool.end_iteration(share, transport), transport.traffic - before

    def evaluate(self, iteration: int, model: Weights, share: Share, memories: Memories) -> list[Measured]:
        """Evaluate the new model for clients that take no part in the iteration, with what they remember."""
        self._pool.memories = memories
        return self._pool.evaluate(iteration, model, share)

    def evaluate_central(self, iteration: int, model: Weights, share: Share) -> list[Measured]:
        """Evaluate the new model on parts of the central test set."""
        return self._pool.evaluate_central(iteration, model, share)

    def end_for_lost(self, model: Weights, share: Share, part: Part, memories: Memories) -> list[ClientResult]:
        """Evaluate the new model for clients that were trained on a node that is lost.

        ``memories`` are those after training."""
        if mode_of(self._config).remembers:
            raise SimulationError(
                "a node of the Ray cluster was lost, and with it what its clients remember for the next iteration",
                hint="--resume goes on from the last iteration that ended",
            )
        results = []
        for measured in self.evaluate(part.iteration, model, share, memories):
            name = measured.name
            steps = -(-self._setup.dataset.user(name).train.size // self._engine.batch_size) * self._config.epochs
            results.append(ClientResult(part.uploads[name].loss, steps, measured))
        return results

    def finish(self) -> None:
        """End the clients' jobs."""
        self._pool.close()


class RayExecutor:
    """Spreads the clients over the nodes of a Ray cluster.

    ``address`` is that of a running cluster, or None for the one Ray finds or starts. Raises :class:`OptionError` where
    Ray is not installed or the cluster cannot be reached.
    """

    def __init__(self, coordinator: Coordinator, setup: NodeSetup, address: str | None) -> None:
        self._coordinator = coordinator
        self._ray = _connected(address)
        self._nodes: dict[str, Any] = {}
        self._traffic = Traffic()
        self._setup = setup
        algorithm, operators = make_algorithm(setup.config.algorithm), use_operators(setup.config.operator)
        for own in (algorithm, *operators):
            home = sys.modules[type(own).__module__]
            if home.__name__.partition(".")[0] != "mindfl":  # nodes need not be able to import the user's module
                self._ray.cloudpickle.register_pickle_by_value(home)
        config = setup.config.derived(algorithm=algorithm, operator=operators, lr_schedule="constant")
        setup_ref = self._ray.put(replace(setup, config=config))
        for node in self._ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
                self._nodes[node["NodeID"]] = self._start(node, setup_ref)
        if not self._nodes:
            raise SimulationError("the Ray cluster has no node with a processor")

    @property
    def traffic(self) -> Traffic:
        """What clients and edge coordinators exchanged so far."""
        return self._traffic

    def run_iteration(
        self, iteration: int, indices: Sequence[int], report: Report, memories: Memories
    ) -> list[ClientResult]:
        """Train on all nodes, absorb the sums, evaluate on all nodes; lost nodes' shares are done elsewhere."""
        model = self._ray.put(dict(self._coordinator.job.exchanged))
        rate = self._coordinator.job.plan.lr
        parts: dict[Share, tuple[str, Part]] = {}

        def ask(node: str, share: Share) -> Any:
            return self._nodes[node].train.remote(iteration, rate, model, share, memories.part(share))

        for share, node, trained in self._on_nodes(self._shares(indices), ask):
            self._coordinator.job.absorb(trained.part, now_ms())
            for index in share:
                memories.write(index, iteration, trained.memories.read(index))
            self._traffic += trained.traffic
            parts[share] = (node, trained.part)
            report(len(share), trained.loss)
        return self._ended(iteration, indices, parts, memories)

    def evaluate(self, iteration: int, indices: Sequence[int], memories: Memories) -> list[Measured]:
        """Evaluate on all nodes what the clients would get from the coordinator."""

        def ask(node: Any, model: Any, share: Share) -> Any:
            return node.evaluate.remote(iteration, model, share, memories.part(share))

        return self._evaluated(iteration, indices, ask)

    def evaluate_central(self, iteration: int) -> list[Measured]:
        """Evaluate on all nodes what clients would get from the coordinator."""

        def ask(node: Any, model: Any, share: Share) -> Any:
            return node.evaluate_central.remote(iteration, model, share)

        return self._evaluated(iteration, range(self._central_parts), ask)

    def _evaluated(
        self, iteration: int, indices: Sequence[int], ask: Callable[[Any, Any, Share], Any]
    ) -> list[Measured]:
        model = self._ray.put(dict(given_model(self._coordinator, iteration)))
        found: dict[int, Measured] = {}
        work = self._shares(indices)
        for share, _, answer in self._on_nodes(work, lambda node, share: ask(self._nodes[node], model, share)):
            found.update(zip(share, answer, strict=True))
        return [found[index] for index in indices]

    @cached_property
    def _central_parts(self) -> int:
        return len(central_parts(self._setup.dataset, self._setup.clients))

    def finish(self) -> None:
        """Let the clients end their jobs."""
        for node in self._nodes.values():
            self._ray.get(node.finish.remote())

    def close(self) -> None:
        """End the worker processes; the cluster continues."""
        for node in self._nodes.values():
            self._ray.kill(node)
        self._nodes.clear()
        # Ray ends this process if another thread's garbage collection drops one of its references as it shuts down.
        gc.collect()
        collects = gc.isenabled()
        gc.disable()
        try:
            self._ray.shutdown()
        finally:
            if collects:
                gc.enable()

    def _start(self, node: Mapping[str, Any], setup: Any) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        threads = int(node["Resources"]["CPU"])
        placed = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actor = self._ray.remote(RayNode).options(num_cpus=threads, scheduling_strategy=placed, max_restarts=0)
        return actor.remote(setup, threads)

    def _ended(
        self, iteration: int, indices: Sequence[int], parts: Mapping[Share, tuple[str, Part]], memories: Memories
    ) -> list[ClientResult]:
        model = self._ray.put(dict(self._coordinator.job.exchanged))

        def ask(node: str, share: Share) -> Any:
            home, part = parts[share]
            worker = self._nodes[node]
            if node == home:
                return worker.end.remote(model, share)
            given = dict(given_model(self._coordinator, iteration))
            return worker.end_for_lost.remote(given, share, part, memories.part(share))

        found: dict[int, ClientResult] = {}
        homes = {share: home for share, (home, _) in parts.items()}
        for share, _, answer in self._on_nodes(homes, ask):
            results, traffic = answer if isinstance(answer, tuple) else (answer, Traffic())
            self._traffic += traffic
            found.update(zip(share, results, strict=True))
        return [found[index] for index in indices]

    def _shares(self, indices: Sequence[int]) -> dict[Share, str]:
        """Split the clients evenly over the living nodes."""
        nodes = list(self._nodes)
        shares = {tuple(indices[first :: len(nodes)]): node for first, node in enumerate(nodes)}
        return {share: node for share, node in shares.items() if share}

    def _on_nodes(self, work: Mapping[Share, str], ask: Any) -> Iterable[tuple[Share, str, Any]]:
        """Ask a node for each share, yield (share, node, answer) as they come; a lost node's share goes to another."""
        pending: dict[Any, tuple[Share, str]] = {}

        def send(share: Share, node: str) -> None:
            pending[ask(self._living(node), share)] = (share, self._living(node))

        for share, node in work.items():
            send(share, node)
        while pending:
            (reference, *_), _ = self._ray.wait(list(pending), num_returns=1)
            share, node = pending.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError:
                self._nodes.pop(node, None)
                send(share, node)
                continue
            yield share, node, answer

    def _living(self, node: str) -> str:
        """Return ``node``, or another one if it is lost."""
        if node in self._nodes:
            return node
        if not self._nodes:
            raise SimulationError("all nodes of the Ray cluster are lost", hint="look at the cluster's own logs")
        return next(iter(self._nodes))


def check_address(address: str | None) -> None:
    """Raise :class:`OptionError` where no cluster can be at ``address``; None: Ray finds or starts one."""
    try:
        _knock(address)
    except (OSError, ValueError, OverflowError) as error:
        raise _unreached(address, error) from None


def _connected(address: str | None) -> Any:
    try:
        import ray
    except ImportError:
        raise lacks("--executor ray", "ray") from None
    check_address(address)
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreached(address, error) from None
    return ray


def _unreached(address: str | None, error: Exception) -> OptionError:
    return OptionError(
        f"no Ray cluster at {address or 'the default address'}: {str(error).splitlines()[0]}",
        hint="give --ray_address HOST:PORT of a running cluster, or leave it out",
    )


def _knock(address: str | None) -> None:
    """Raise ``OSError`` where nothing listens at [ray://]HOST:PORT: Ray itself would continue trying for minutes.

    Raises ``ValueError`` for what is no address. Ray's own words, such as "auto", are left to it.
    """
    if address is None or address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ValueError("it is no address")
    socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
