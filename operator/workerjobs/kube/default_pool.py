"""The default pool: a WorkerPool that the operator makes from its own configuration.

Helm maps kinds before it installs, so a chart can't hold a WorkerPool of the kind that it brings. The rule: what is
configured exists. It is made where it is missing, also after somebody deleted it; a change of the configuration reaches
it; but a field that somebody has set otherwise is theirs from then on (the API server knows whose each field is).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from workerjobs.errors import ClusterError, ClusterUnavailableError
from workerjobs.kube.workerpool import API_VERSION, KIND, parse_spec
from workerjobs.ports.cluster import PoolCluster

log = logging.getLogger(__name__)

NAME = "default"
EVERY_SECONDS = 30.0


def without_fields(spec: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Leave out what somebody else has set, and nothing beside it: what is not applied any more is taken away.

    Args:
        spec: As configured.
        fields: Paths such as ``.spec.workerCount`` or ``.spec.template.metadata.labels.example.org/team``, as the API
            server writes them: names may hold dots.

    >>> without_fields({"slots": 1, "template": {"a.b": 1, "c": 2}}, [".spec.slots", ".spec.template.a.b"])
    {'template': {'c': 2}}
    """
    left = spec
    for path in fields:
        if path.startswith(".spec."):
            left = _without(left, path.removeprefix(".spec."))
    return dict(left)


def _without(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    left = dict(given)
    for name, value in given.items():
        if path == name or path.startswith(f"{name}["):
            # Of a list that several keep together, all of it.
            del left[name]
        elif path.startswith(f"{name}.") and isinstance(value, Mapping):
            left[name] = _without(value, path.removeprefix(f"{name}."))
    return left


class DefaultPool:
    """Keeps the default pool as it is configured.

    Args:
        spec: A WorkerPool's.

    Raises:
        InvalidInputError: It is none.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        parse_spec(NAME, spec)
        self._spec = dict(spec)
        self._next = 0.0
        self._said: object = None

    async def step(self, cluster: PoolCluster, namespace: str) -> None:
        """Bring it to what is configured, now and then.

        Raises:
            ClusterUnavailableError: Try again later.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_SECONDS
        try:
            theirs = await self._apply(cluster, namespace, self._spec)
            if theirs:
                await self._apply(cluster, namespace, without_fields(self._spec, theirs))
        except ClusterUnavailableError:
            self._next = 0.0
            raise
        except ClusterError as error:
            self._say(str(error), logging.ERROR, f"The default pool can't be made as it is configured: {error}")
            return
        if theirs:
            names = ", ".join(sorted(path.removeprefix(".spec.") for path in theirs))
            self._say(theirs, logging.INFO, f"Of the default pool, these are left as somebody set them: {names}")
        else:
            self._said = None

    async def _apply(self, cluster: PoolCluster, namespace: str, spec: Mapping[str, Any]) -> frozenset[str]:
        metadata = {"name": NAME, "namespace": namespace}
        return await cluster.apply_workerpool(
            {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
        )

    def _say(self, what: object, level: int, message: str) -> None:
        if what != self._said:
            log.log(level, "%s", message)
            self._said = what
