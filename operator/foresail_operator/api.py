"""The few requests that the operator makes: read one object, apply one, apply its status, post an event; and how to connect.

Owns the client. It must not know what is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import kopf
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from foresail_api.errors import UserError
from foresail_operator.names import FIELD_MANAGER
from foresail_operator.resources import Key, Resource, Version

REQUEST_SECONDS: Final = 30

_APPLY = "application/apply-patch+yaml"
_ONLY_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


_UNREACHABLE: Final = 0
_PASSING: Final = frozenset([_UNREACHABLE, 401, 408, 429])


class ApiError(Exception):
    """The API server refused a request, and the message is its own; or it could not be reached, and the status is 0."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same request may be answered otherwise a little later: it says nothing about what was asked for."""
        return self.status in _PASSING or self.status >= 500


class Conflict(ApiError):
    """The object is not the one, or not the version, that the request was meant for."""


@dataclass(frozen=True, slots=True)
class Api:
    """Requests to the API server, each with a deadline. Raises ApiError."""

    client: ApiClient

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None if it does not exist."""
        try:
            return await self._request("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def apply(self, resource: Resource, manifest: Mapping[str, Any], *, status: bool = False) -> dict[str, Any]:
        """Apply an object (or its status) as its only writer, and return what is stored.

        `metadata.resourceVersion` says which version this is meant for; Conflict is raised where another one is stored.
        """
        metadata = manifest["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._request("PATCH", f"{path}/status" if status else path, manifest, query, _APPLY)

    async def versions(
        self, resource: Resource, namespace: str | None, *, labels: str = "", name: str | None = None
    ) -> dict[Key, Version]:
        """Return which versions of a kind's objects are stored: in a namespace or in all, with those labels or that name."""
        query = {"labelSelector": labels, "fieldSelector": "" if name is None else f"metadata.name={name}"}
        answer = await self._request("GET", resource.path(namespace), query=query, accept=_ONLY_METADATA)
        found = [item["metadata"] for item in answer["items"] or ()]
        return {
            Key(resource.kind, item["namespace"], item["name"]): Version(item["uid"], item["resourceVersion"])
            for item in found
        }

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> None:
        """Create an object that nobody changes afterwards."""
        path = resource.path(manifest["metadata"]["namespace"])
        await self._request("POST", path, manifest, {"fieldManager": FIELD_MANAGER})

    async def allowed(self, verb: str, group: str, resource: str, namespace: str | None) -> bool:
        """Return whether this client may do that to objects of a namespace, or of all."""
        resource, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**attributes, **({"namespace": namespace} if namespace else {})}},
        }
        answer = await self._request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    async def served(self, group_version: str) -> set[str]:
        """Return the plural names of the kinds that the API server serves in a group."""
        try:
            answer = await self._request("GET", f"/apis/{group_version}")
        except ApiError as error:
            if error.status == 404:
                return set()
            raise
        return {str(item["name"]) for item in answer["resources"]}

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        request = await self.client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self.client.call_api(*request, _request_timeout=REQUEST_SECONDS)
            content = await response.read()  # type: ignore[no-untyped-call]
        except Exception as error:
            # Whatever the HTTP client raises, of its own or of the operating system's, it got no answer.
            reason = f"the API server gave no answer: {type(error).__name__}: {error}"
            raise ApiError(_UNREACHABLE, reason) from error
        try:
            answer = json.loads(content)
        except ValueError:
            raise ApiError(response.status, f"{method} {path} was answered with no JSON") from None
        if 200 <= response.status <= 299:
            return dict(answer)
        message = answer.get("message") or f"{method} {path} was answered with status {response.status}"
        raise (Conflict if response.status == 409 else ApiError)(response.status, message)


async def load_configuration() -> Configuration:
    """Find the API server: `KUBECONFIG`, else the pod's own ServiceAccount, else `~/.kube/config`; UserError if none is usable."""
    configuration = Configuration()
    try:
        if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise UserError(f"no Kubernetes cluster is configured: {error}; set KUBECONFIG to a usable file") from None
    return configuration


async def connection_info(configuration: Configuration) -> kopf.ConnectionInfo:
    """Return the same connection for Kopf's own requests, with the token of now."""
    credential = await configuration.get_api_key_with_prefix("BearerToken")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme="Bearer" if credential else None,
        token=credential.rpartition(" ")[2] if credential else None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )
