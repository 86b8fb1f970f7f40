"""One pass over one object: observe, plan, write. Level-based: it looks at what is, never at what has happened.

Owns the order of writes and what a refusal means. It must not know what should be written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from foresail_operator.api import Api, ApiError, Conflict
from foresail_operator.children.deployment import SidecarImage
from foresail_operator.conditions import same_status, status_manifest
from foresail_operator.events import events_of
from foresail_operator.names import child_name
from foresail_operator.observation import Child, Identity, PolicyObservation, PolicyRecord, PoolRecord, child
from foresail_operator.plan import Plan, Write, plan_policy, plan_pool
from foresail_operator.queue import TryAgain
from foresail_operator.resources import CHILDREN, EVENT, MODEL_POOL, ROUTING_POLICY, Key, Resource
from foresail_operator.watching import Indices

logger = logging.getLogger(__name__)


class Controller:
    """Makes the cluster say what pools and policies ask for."""

    def __init__(self, api: Api, image: SidecarImage, now: Callable[[], datetime]) -> None:
        self._api = api
        self._image = image
        self._now = now
        self._indices: Indices | None = None

    def started(self, indices: Indices) -> None:
        """Take the indices from which objects are read."""
        self._indices = indices

    async def handle(self, key: Key) -> None:
        """Bring one pool or policy in order. Raises TryAgain if that is not done yet."""
        try:
            await self._handle(key)
        except ApiError as error:
            logger.warning("The API server refused work on %s: %s", key, error)
            raise TryAgain(str(error)) from None

    async def _handle(self, key: Key) -> None:
        assert self._indices is not None  # noqa: S101  nothing is enqueued before Kopf has started
        if key.kind == MODEL_POOL.kind:
            pool = self._indices.pool(key)
            if pool is not None and not pool.identity.deleting:
                await self._handle_pool(pool)
        else:
            policy = self._indices.policy(key)
            # The garbage collector removes what a deleted policy owned; writing it again would only delay that.
            if policy is not None and not policy.identity.deleting:
                await self._handle_policy(policy, self._indices)

    async def _handle_pool(self, record: PoolRecord) -> None:
        plan = plan_pool(record, self._now())
        await self._write_status(MODEL_POOL, record.identity, record.status, plan.status)

    async def _handle_policy(self, record: PolicyRecord, indices: Indices) -> None:
        seen = await self._observe(record, indices)
        now = self._now()
        plan = plan_policy(seen, self._image, now)
        if plan.creates and not await self._still_exists(record.identity):
            return
        failure = await self._write_children(plan)
        if failure is not None:
            plan = plan_policy(seen, self._image, now, failure)
        await self._write_status(ROUTING_POLICY, record.identity, record.status, plan.status)
        if failure is not None:
            raise TryAgain(failure)
        if plan.unfinished is not None:
            raise TryAgain(plan.unfinished)

    async def _observe(self, record: PolicyRecord, indices: Indices) -> PolicyObservation:
        identity = record.identity
        pool = indices.pool(Key(MODEL_POOL.kind, identity.namespace, record.pool_name))
        children = {resource: await self._observe_child(resource, identity, indices) for resource in CHILDREN}
        return PolicyObservation(record, pool, children)

    async def _observe_child(self, resource: Resource, policy: Identity, indices: Indices) -> Child | None:
        """Look a child up; the indices hold only what carries our labels, so who is not there is asked for by name."""
        name = child_name(policy.name)
        known = indices.child(resource, policy.namespace, name)
        if known is not None:
            return known
        found = await self._api.get(resource, policy.namespace, name)
        return None if found is None else child(found)

    async def _still_exists(self, policy: Identity) -> bool:
        """Ask before anything is created: for a policy that is gone the garbage collector would remove it again, and so on."""
        found = await self._api.versions(ROUTING_POLICY, policy.namespace, name=policy.name)
        version = found.get(Key(ROUTING_POLICY.kind, policy.namespace, policy.name))
        return version is not None and version.uid == policy.uid

    async def _write_children(self, plan: Plan) -> str | None:
        for write in plan.writes:
            failure = await self._write_child(write)
            if failure is not None:
                return failure
        return None

    async def _write_child(self, write: Write) -> str | None:
        """Apply a child; return what the API server has against it. A version that is not the newest is looked at again."""
        metadata = write.manifest["metadata"]
        title = f"{write.resource.kind} {metadata['namespace']}/{metadata['name']}"
        try:
            await self._api.apply(write.resource, write.manifest)
        except Conflict:
            raise TryAgain(f"{title} has changed since it was read") from None
        except ApiError as error:
            if error.passing:
                raise
            logger.warning("%s was refused: %s", title, error)
            return f"{title}: {error}"
        logger.info("%s applied", title)
        return None

    async def _write_status(
        self, resource: Resource, identity: Identity, before: Mapping[str, Any], status: Mapping[str, Any]
    ) -> None:
        if same_status(before, status):
            return
        title = f"{resource.kind} {identity.namespace}/{identity.name}"
        try:
            await self._api.apply(resource, status_manifest(resource, identity, status), status=True)
        except Conflict:
            raise TryAgain(f"{title} has changed since it was read") from None
        except ApiError as error:
            if error.status == 404:
                return
            raise
        for event in events_of(resource, identity, before, status, self._now()):
            await self._post(event)

    async def _post(self, event: Mapping[str, Any]) -> None:
        try:
            await self._api.create(EVENT, event)
        except ApiError as error:
            # Events are a courtesy: the conditions hold the same.
            logger.info("An event about %s was refused: %s", event["involvedObject"]["name"], error)
