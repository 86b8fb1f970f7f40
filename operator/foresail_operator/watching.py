"""Kopf's part: it lists and watches, keeps indices of what was seen, and tells which object may need work. Nothing more.

Owns handlers, which only read and enqueue. It must not know what is done with a key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import kopf

from foresail_operator.names import CHILD_SELECTOR, policy_of
from foresail_operator.observation import Child, PolicyRecord, PoolRecord, child, policy_record, pool_record
from foresail_operator.resources import CHILDREN, MODEL_POOL, ROUTING_POLICY, Key, Resource, Version


@dataclass(frozen=True, slots=True)
class Indices:
    """What was seen last, kept up to date by Kopf: pools, policies and children by their keys, policies by their pool."""

    pools: kopf.Index[Key, PoolRecord]
    policies: kopf.Index[Key, PolicyRecord]
    pool_users: kopf.Index[Key, Key]
    children: dict[Resource, kopf.Index[Key, Child]]

    def pool(self, key: Key) -> PoolRecord | None:
        """Return a pool, if it exists."""
        return next(iter(self.pools[key]), None) if key in self.pools else None

    def policy(self, key: Key) -> PolicyRecord | None:
        """Return a policy, if it exists."""
        return next(iter(self.policies[key]), None) if key in self.policies else None

    def child(self, resource: Resource, namespace: str, name: str) -> Child | None:
        """Return an object that carries the labels of a child; None says nothing about objects without them."""
        index, key = self.children[resource], Key(resource.kind, namespace, name)
        return next(iter(index[key]), None) if key in index else None

    def versions(self) -> dict[Key, Version]:
        """Return which version of each object was seen last."""
        indices: list[kopf.Index[Key, Any]] = [self.pools, self.policies, *self.children.values()]
        return {
            key: Version(record.identity.uid, record.identity.resource_version)
            for index in indices
            for key in index
            for record in index[key]
        }

    def keys(self) -> Iterator[Key]:
        """Yield every pool and policy."""
        yield from self.pools
        yield from self.policies


def build_registry(
    enqueue: Callable[[Key], None],
    started: Callable[[Indices], None],
    login: Callable[[], Awaitable[kopf.ConnectionInfo]],
    waiting: Callable[[], int],
) -> kopf.OperatorRegistry:
    """Return Kopf's handlers: `started` is given the indices before anything is enqueued, `waiting` is shown by the health check."""
    registry = kopf.OperatorRegistry()
    _add_activities(registry, started, login, waiting)
    _add_indices(registry)
    _add_events(registry, enqueue)
    return registry


def _add_activities(
    registry: kopf.OperatorRegistry,
    started: Callable[[Indices], None],
    login: Callable[[], Awaitable[kopf.ConnectionInfo]],
    waiting: Callable[[], int],
) -> None:
    @kopf.on.login(registry=registry, id="login")
    async def _login(**_: Any) -> kopf.ConnectionInfo:
        return await login()

    @kopf.on.startup(registry=registry, id="indices")
    async def _started(**found: Any) -> None:
        children = {resource: found[resource.plural] for resource in CHILDREN}
        started(Indices(found["pools"], found["policies"], found["pool_users"], children))

    @kopf.on.probe(registry=registry, id="waiting")
    async def _waiting(**_: Any) -> int:
        return waiting()


def _add_indices(registry: kopf.OperatorRegistry) -> None:
    @kopf.index(*_selector(MODEL_POOL), registry=registry, id="pools")
    async def _pools(body: kopf.Body, **_: Any) -> dict[Key, PoolRecord]:
        return {_key(MODEL_POOL, body): pool_record(dict(body))}

    @kopf.index(*_selector(ROUTING_POLICY), registry=registry, id="policies")
    async def _policies(body: kopf.Body, **_: Any) -> dict[Key, PolicyRecord]:
        return {_key(ROUTING_POLICY, body): policy_record(dict(body))}

    @kopf.index(*_selector(ROUTING_POLICY), registry=registry, id="pool_users")
    async def _pool_users(body: kopf.Body, **_: Any) -> dict[Key, Key]:
        policy = _key(ROUTING_POLICY, body)
        return {Key(MODEL_POOL.kind, policy.namespace, policy_record(dict(body)).pool_name): policy}

    for resource in CHILDREN:

        @kopf.index(*_selector(resource), registry=registry, id=resource.plural)
        async def _children(body: kopf.Body, resource_: Resource = resource, **_: Any) -> dict[Key, Child]:
            return {_key(resource_, body): child(dict(body))}


def _add_events(registry: kopf.OperatorRegistry, enqueue: Callable[[Key], None]) -> None:
    @kopf.on.event(*_selector(MODEL_POOL), registry=registry, id="pool")
    async def _pool(body: kopf.Body, **found: Any) -> None:
        key = _key(MODEL_POOL, body)
        enqueue(key)
        for policy in found["pool_users"].get(key, ()):
            enqueue(policy)

    @kopf.on.event(*_selector(ROUTING_POLICY), registry=registry, id="policy")
    async def _policy(body: kopf.Body, **_: Any) -> None:
        enqueue(_key(ROUTING_POLICY, body))

    for resource in CHILDREN:

        @kopf.on.event(*_selector(resource), registry=registry, id=resource.plural)
        async def _child(body: kopf.Body, **_: Any) -> None:
            policy = policy_of(body.metadata.labels)
            if policy is not None:
                enqueue(Key(ROUTING_POLICY.kind, str(body.metadata.namespace), policy))


def watch_settings(settings: kopf.OperatorSettings) -> kopf.OperatorSettings:
    """Bound every request and stream, narrow children to ours on the server, and leave alone what needs more rights."""
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.watching.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.chunk_size = 500
    for resource in CHILDREN:
        settings.watching.label_selectors[_selector(resource)] = CHILD_SELECTOR
    return settings


def _selector(resource: Resource) -> tuple[str, str]:
    return resource.api_version, resource.plural


def _key(resource: Resource, body: kopf.Body) -> Key:
    return Key(resource.kind, str(body.metadata.namespace), str(body.metadata.name))
