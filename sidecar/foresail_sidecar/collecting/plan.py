"""What is to be asked: graded prompts, the models of a pool with their addresses, and which of their pairs are still open.

Reads files before the first question so that every fault of theirs shows at once. It must not know connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from foresail_api.common import ObjectMeta
from foresail_api.compile import Target as CompileTarget
from foresail_api.compile import compile_policy
from foresail_api.errors import UserError
from foresail_api.manifests import Manifests
from foresail_api.policy import PoolRef, Router, RoutingPolicy, RoutingPolicySpec, Strategy
from foresail_api.pool import ModelPool
from foresail_api.snapshot import Snapshot, SnapshotModel
from foresail_router.data.grading import compile_grader
from foresail_router.data.records import Prompt, read_prompts
from foresail_sidecar.configuration import secrets
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.protocols.openai import PATH
from foresail_sidecar.upstreams.targets import Target, targets_of

_POLICY_NAME = "collect"


@dataclass(frozen=True, slots=True)
class GradedPrompt:
    """A prompt and the predicate that tells its right answers."""

    prompt: Prompt
    is_right: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A model, the first of its upstreams that has its credential, and the output limit of each question."""

    model: SnapshotModel
    target: Target = field(repr=False)
    output_limit: int


def read_graded_prompts(path: Path) -> list[GradedPrompt]:
    """Return the prompts of a file; raise `UserError` for one that says not how it is graded, or says it wrongly."""
    graded = []
    for prompt in read_prompts(path):
        if prompt.grader is None or prompt.reference is None:
            missing = "grader" if prompt.grader is None else "reference"
            raise UserError(
                f'{path}, prompt {prompt.id!r}, column "{missing}": is missing; `collect` needs the columns grader and reference'
            )
        try:
            graded.append(GradedPrompt(prompt, compile_grader(prompt.grader, prompt.reference)))
        except ValueError as error:
            raise UserError(f"{path}, prompt {prompt.id!r}, grader or reference: {error}") from error
    return graded


def choose_pool(manifests: Manifests, name: str | None) -> ModelPool:
    """Return the pool of that name, or the only one; raise `UserError` if that is not exactly one."""
    found = [pool for (_, own_name), pool in manifests.pools.items() if name in (None, own_name)]
    names = ", ".join(sorted(own_name for _, own_name in manifests.pools)) or "none"
    if len(found) > 1:
        raise UserError(f"more than one ModelPool; choose one of them with --pool: {names}")
    if not found:
        raise UserError(f"no ModelPool {name or ''}".rstrip() + f" was found; the files hold: {names}")
    return found[0]


def models_to_ask(
    pool: ModelPool,
    manifests: Manifests,
    secrets_directory: Path | None,
    names: list[str] | None,
    output_limit: int | None,
) -> list[AskedModel]:
    """Return the models of a pool, or those named, each with its address and credential; raise `UserError` where one cannot be asked."""
    snapshot = _snapshot(pool)
    known = [model.name for model in snapshot.models]
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise UserError(
            f"--models: {', '.join(unknown)} is not in ModelPool {pool.metadata.name!r}; it has {', '.join(known)}"
        )
    credentials = _credentials(pool, manifests, secrets_directory)
    state = ServingState(snapshot, snapshot.content_hash(), 0, credentials)
    targets = targets_of(state, PATH)
    asked = []
    for model in snapshot.models:
        if names and model.name not in names:
            continue
        if not targets[model.name]:
            wanted = ", ".join(f"{name}/{key}" for name, key in state.missing_credentials(model))
            raise UserError(
                f"model {model.name!r} needs the Secret {wanted}; add its manifest to the files, or give --secrets DIR"
            )
        limit = min(output_limit or model.default_max_output_tokens, model.max_output_tokens)
        asked.append(AskedModel(model, targets[model.name][0], limit))
    return asked


def _snapshot(pool: ModelPool) -> Snapshot:
    """Compile a pool as a policy that has nothing but it, so that it is read here as it is served."""
    names = {model.name for model in pool.spec.models}
    alias = next(alias for number in range(len(names) + 1) if (alias := f"{_POLICY_NAME}-{number}") not in names)
    policy = RoutingPolicy(
        metadata=ObjectMeta(name=_POLICY_NAME, namespace=pool.metadata.namespace),
        spec=RoutingPolicySpec(
            pool_ref=PoolRef(name=pool.metadata.name), aliases=[alias], router=Router(strategy=Strategy.CHEAPEST)
        ),
    )
    compilation = compile_policy(policy, pool, CompileTarget.LOCAL)
    if compilation.snapshot is None:
        raise UserError(
            "\n  ".join(f"ModelPool {pool.metadata.name}: {problem.message}" for problem in compilation.problems)
        )
    return compilation.snapshot


def _credentials(pool: ModelPool, manifests: Manifests, directory: Path | None) -> Mapping[tuple[str, str], str]:
    beside = {
        (name, key): value
        for (namespace, name), values in manifests.secrets.items()
        if namespace == pool.metadata.namespace
        for key, value in values.items()
    }
    from_manifests, faults = secrets.usable(beside)
    from_directory, more_faults = secrets.read_directory(directory)
    if faults or more_faults:
        raise UserError("\n  ".join(["some credentials cannot be used:", *faults, *more_faults]))
    return from_manifests | from_directory
