"""The operator as a process: connects, checks what it needs, and runs Kopf beside the work queue until one of them ends.

Owns start and stop. It must not know what is reconciled.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

import kopf
from kubernetes.aio.client import ApiClient

from foresail_api.common import API_VERSION
from foresail_api.errors import UserError
from foresail_operator.api import Api, ApiError, connection_info, load_configuration
from foresail_operator.children.deployment import SidecarImage
from foresail_operator.controller import Controller
from foresail_operator.freshness import check_indices
from foresail_operator.queue import WorkQueue
from foresail_operator.resources import MODEL_POOL, ROUTING_POLICY, Key
from foresail_operator.rights import RULES
from foresail_operator.watching import Indices, build_registry, watch_settings

WORKERS: Final = 4
RESYNC_SECONDS: Final = 600.0
DEFINITIONS_SECONDS: Final = 60

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What `foresail operator` was told. No namespaces means all of them."""

    sidecar_image: str
    sidecar_image_pull_policy: str
    namespaces: tuple[str, ...]
    liveness_port: int | None
    json_logs: bool


def run_operator(options: Options) -> int:
    """Run until SIGTERM or SIGINT (status 0), or until something fails that a restart may cure (status 1).

    Raises UserError if no cluster, no kinds of ours, or too few rights are found.
    """
    kopf.configure(log_format=kopf.LogFormat.JSON if options.json_logs else kopf.LogFormat.FULL)
    # A line for each event seen and each probe answered says nothing; what was written is logged by the controller.
    for chatty in ("kopf.objects", "kopf.activities.probe", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(_run(options))
    except UserError:
        raise
    except Exception as error:
        logger.error("The operator ends: %s: %s", type(error).__name__, error)
        return 1
    return 0


async def _run(options: Options) -> None:
    configuration = await load_configuration()
    async with ApiClient(configuration) as client:
        api = Api(client)
        await _check_definitions(api)
        await _check_rights(api, options.namespaces)
        image = SidecarImage(options.sidecar_image, options.sidecar_image_pull_policy)
        controller = Controller(api, image, lambda: datetime.now(UTC))
        queue: WorkQueue[Key] = WorkQueue(controller.handle)
        indices: asyncio.Future[Indices] = asyncio.get_running_loop().create_future()

        def started(found: Indices) -> None:
            controller.started(found)
            indices.set_result(found)

        registry = build_registry(queue.add, started, lambda: connection_info(configuration), lambda: len(queue))
        work = [queue.run(WORKERS), _resync(api, indices, options.namespaces, queue), _watch(registry, options)]
        await _until_one_ends([asyncio.create_task(part) for part in work])


async def _watch(registry: kopf.OperatorRegistry, options: Options) -> None:
    port = options.liveness_port
    await kopf.operator(
        registry=registry,
        settings=watch_settings(kopf.OperatorSettings()),
        standalone=True,
        clusterwide=not options.namespaces,
        namespaces=options.namespaces,
        liveness_endpoint=None if port is None else f"http://0.0.0.0:{port}/healthz",
    )


async def _resync(
    api: Api, indices: asyncio.Future[Indices], namespaces: tuple[str, ...], queue: WorkQueue[Key]
) -> NoReturn:
    """Now and then compare what was seen with what is, and look at everything again: what has no label sends no event."""
    seen = await indices
    while True:
        await asyncio.sleep(RESYNC_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  spreads load, guards nothing
        try:
            await check_indices(api, seen, namespaces)
        except ApiError as error:
            logger.warning("What was seen could not be compared with what is: %s", error)
        for key in list(seen.keys()):
            queue.add(key)


async def _until_one_ends(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the first task to end, whatever its outcome; end the others; raise what it raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled():
            task.result()


async def _check_definitions(api: Api) -> None:
    """Wait for both kinds: a chart that installs them beside the operator may be a moment later."""
    wanted = {MODEL_POOL.plural, ROUTING_POLICY.plural}
    for _ in range(DEFINITIONS_SECONDS):
        if wanted <= await api.served(API_VERSION):
            return
        await asyncio.sleep(1)
    raise UserError(
        f"the cluster does not serve {' and '.join(sorted(wanted))} of {API_VERSION}; apply the YAML that `foresail crds` writes"
    )


async def _check_rights(api: Api, namespaces: tuple[str, ...]) -> None:
    """Say at once which right is missing: a watch without it would be retried silently for a minute."""
    missing = []
    for namespace in namespaces or (None,):
        for rule in RULES:
            for resource in rule.resources:
                refused = [verb for verb in rule.verbs if not await api.allowed(verb, rule.group, resource, namespace)]
                if refused:
                    title = f"{resource}.{rule.group}" if rule.group else resource
                    missing.append(f"{', '.join(refused)} {title} in {namespace or 'all namespaces'}")
    if missing:
        raise UserError(
            "the operator's account lacks rights; grant what the chart's ClusterRole holds:\n  " + "\n  ".join(missing)
        )
