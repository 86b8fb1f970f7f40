"""The kind `RoutingPolicy`: which router answers which requests, what it weighs, and what it must never spend.

Owns the shape that users write. It must not know how a decision is taken.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from foresail_api.attempts import Fallback
from foresail_api.budgets import Budget, BudgetMode
from foresail_api.common import (
    API_VERSION,
    LIST_SET,
    ApiObject,
    Digest,
    Distinct,
    DnsSubdomain,
    Dollars,
    FileUri,
    ModelName,
    ObjectMeta,
    RelativePath,
    list_map,
    rule,
    unique,
)
from foresail_api.ledgers import Ledger, LedgerType, OnLedgerUnavailable
from foresail_api.tenants import Tenants


class Strategy(StrEnum):
    """What takes the decision."""

    LEARNED = "Learned"
    CHEAPEST = "Cheapest"
    DEFAULT = "Default"


class FailureMode(StrEnum):
    """What happens to a request that could not be scored."""

    FAIL_OPEN = "FailOpen"
    FAIL_CLOSE = "FailClose"


class PoolRef(ApiObject):
    """A ModelPool in the same namespace."""

    name: DnsSubdomain = Field(description="Name of the ModelPool, in the namespace of this policy.")


class VolumeClaim(ApiObject):
    """A directory on a PersistentVolumeClaim in the same namespace."""

    name: DnsSubdomain = Field(description="Name of the PersistentVolumeClaim. Mounted read-only.")
    path: RelativePath = Field(description="Directory of the artifact on the volume, relative to its root.")


class Artifact(ApiObject):
    """A trained router, pinned by its digest."""

    cel: ClassVar = (
        rule("has(self.uri) != has(self.volumeClaim)", "exactly one of `uri` and `volumeClaim` must be set"),
    )

    uri: FileUri | None = Field(
        None, description="`file://` and an absolute path. For `foresail serve` only; in a cluster use `volumeClaim`."
    )
    volume_claim: VolumeClaim | None = Field(None, description="Directory on a volume that holds the artifact.")
    digest: Digest = Field(
        description="Digest that `foresail train` printed. Any other content is refused.",
    )

    @model_validator(mode="after")
    def _rules(self) -> Artifact:
        if (self.uri is None) == (self.volume_claim is None):
            raise ValueError("exactly one of `uri` and `volumeClaim` must be set")
        return self


class Router(ApiObject):
    """What takes the decision, and what happens when it cannot."""

    cel: ClassVar = (
        rule(
            "(self.strategy == 'Learned') == has(self.artifact)",
            "`artifact` must be set if, and only if, `strategy` is `Learned`",
        ),
        rule(
            "self.strategy != 'Default' || has(self.defaultModel)",
            "`defaultModel` must be set if `strategy` is `Default`",
        ),
    )

    strategy: Strategy = Field(
        description="`Learned` asks the artifact; `Cheapest` takes the cheapest model that can answer; `Default` takes `defaultModel` where it can answer."
    )
    artifact: Artifact | None = Field(
        None, description="The trained router. Its manifest names the method that it was trained with."
    )
    deadline_milliseconds: Annotated[int, Field(strict=True, ge=1, le=60_000)] = Field(
        250, description="Longest wait for the router's estimates. After it, `failureMode` applies."
    )
    default_model: ModelName | None = Field(
        None,
        description="Model of the pool that answers where the router cannot decide. The cheapest one that can answer if absent.",
    )
    failure_mode: FailureMode = Field(
        FailureMode.FAIL_OPEN,
        description="`FailOpen` answers from `defaultModel`, or else the cheapest model, when scoring fails; `FailClose` answers with status 503.",
    )

    @model_validator(mode="after")
    def _rules(self) -> Router:
        if (self.strategy == Strategy.LEARNED) != (self.artifact is not None):
            raise ValueError("`artifact` must be set if, and only if, `strategy` is `Learned`")
        if self.strategy == Strategy.DEFAULT and self.default_model is None:
            raise ValueError("`defaultModel` must be set if `strategy` is `Default`")
        return self


class Tradeoff(ApiObject):
    """Highest quality minus weighted cost."""

    cost_weight_percent: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        30,
        description="How much cost weighs: 0 looks at quality only; w > 0 weighs cost by 10^(w/20 - 3) relative to the best single model's mean cost.",
    )


class CheapestWithinPercentOfBest(ApiObject):
    """The cheapest model whose predicted quality is close to the best one's."""

    percent: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        description="How far below the best predicted quality a cheaper model may lie, in percent of that quality."
    )


class Objective(ApiObject):
    """What the decision optimises."""

    cel: ClassVar = (
        rule(
            "has(self.tradeoff) != has(self.cheapestWithinPercentOfBest)",
            "exactly one of `tradeoff` and `cheapestWithinPercentOfBest` must be set",
        ),
    )

    tradeoff: Tradeoff | None = Field(None, description="Weigh predicted quality against predicted cost.")
    cheapest_within_percent_of_best: CheapestWithinPercentOfBest | None = Field(
        None, description="Take the cheapest model that is predicted to be nearly as good as the best."
    )

    @model_validator(mode="after")
    def _rules(self) -> Objective:
        if (self.tradeoff is None) == (self.cheapest_within_percent_of_best is None):
            raise ValueError("exactly one of `tradeoff` and `cheapestWithinPercentOfBest` must be set")
        return self


class CostLimits(ApiObject):
    """What must never be exceeded."""

    per_request: Dollars | None = Field(
        None,
        description='Most US dollars that one request can cost, at worst, for example "0.01". Models without a price are left out.',
    )
    budgets: Annotated[list[Budget], Field(max_length=8), unique("name")] = Field(
        default_factory=list,
        description="What may be spent in windows of time, told apart by `name`. A request counts in all of them. Models without a price are left out where one is enforced.",
        json_schema_extra={**list_map("name"), "default": []},
    )
    ledger: Ledger | None = Field(
        None,
        description="Where it is kept what was spent of the budgets, and what counts against the `limits` of upstreams. An embedded ledger if absent.",
    )
    on_ledger_unavailable: OnLedgerUnavailable = Field(
        OnLedgerUnavailable.FAIL_CLOSE,
        description="While the ledger does not answer, `FailClose` answers requests that an enforced budget limits with status 503, and `FailOpen` serves them: budgets do not hold then. Models whose price is 0 answer in any case.",
    )

    @property
    def enforces_budget(self) -> bool:
        """Whether any budget may refuse a request."""
        return any(budget.mode == BudgetMode.ENFORCE for budget in self.budgets)

    @property
    def on_redis(self) -> bool:
        """Whether pods share the ledger."""
        return self.ledger is not None and self.ledger.type == LedgerType.REDIS


class Serving(ApiObject):
    """Where and how often the router runs."""

    mode: Literal["Gateway"] = Field(
        "Gateway", description="`Gateway` runs a Deployment and a Service for this policy."
    )
    replicas: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(1, description="Number of pods.")


_SHARED_MESSAGE = (
    "`serving.replicas` must be at most 1 with an enforced budget, unless `costLimits.ledger.type` is `Redis`"
)
_ONE_WRITER_MESSAGE = "`serving.replicas` must be at most 1 with `costLimits.ledger.storage`"


class RoutingPolicySpec(ApiObject):
    """How requests are routed between the models of a pool."""

    cel: ClassVar = (
        rule(
            "!has(self.costLimits) || !has(self.costLimits.budgets)"
            " || self.costLimits.budgets.all(budget, has(budget.mode) && budget.mode == 'Observe')"
            " || (has(self.costLimits.ledger) && has(self.costLimits.ledger.type) && self.costLimits.ledger.type == 'Redis')"
            " || !has(self.serving) || !has(self.serving.replicas) || self.serving.replicas <= 1",
            _SHARED_MESSAGE,
        ),
        rule(
            "!has(self.costLimits) || !has(self.costLimits.ledger) || !has(self.costLimits.ledger.storage)"
            " || !has(self.serving) || !has(self.serving.replicas) || self.serving.replicas <= 1",
            _ONE_WRITER_MESSAGE,
        ),
    )

    pool_ref: PoolRef = Field(description="The pool to route to.")
    aliases: Annotated[list[ModelName], Field(min_length=1, max_length=16), Distinct] = Field(
        default_factory=lambda: ["auto"],
        description="Values of `model` in requests that this policy routes. A model's own name passes through unrouted, under the same limits.",
        json_schema_extra={**LIST_SET, "default": ["auto"]},
    )
    router: Router = Field(description="What takes the decision.")
    objective: Objective = Field(
        default_factory=lambda: Objective(tradeoff=Tradeoff()),
        description="What the decision optimises.",
        json_schema_extra={"default": {"tradeoff": {}}},
    )
    cost_limits: CostLimits | None = Field(None, description="What must never be exceeded.")
    fallback: Fallback = Field(
        default_factory=lambda: Fallback(),
        description="What follows where an upstream fails.",
        json_schema_extra={"default": {}},
    )
    tenants: Tenants = Field(
        default_factory=lambda: Tenants(),
        description="Who may call.",
        json_schema_extra={"default": {}},
    )
    serving: Serving = Field(
        default_factory=lambda: Serving(),
        description="Where the router runs.",
        json_schema_extra={"default": {}},
    )

    @model_validator(mode="after")
    def _rules(self) -> RoutingPolicySpec:
        limits = self.cost_limits
        if limits is None or self.serving.replicas <= 1:
            return self
        if limits.enforces_budget and not limits.on_redis:
            raise ValueError(_SHARED_MESSAGE)
        if limits.ledger is not None and limits.ledger.storage is not None:
            raise ValueError(_ONE_WRITER_MESSAGE)
        return self


_NAME_MESSAGE = (
    "`metadata.name` must be at most 54 lower-case letters, digits and hyphens that start with a letter and end with a letter "
    "or a digit, because the Service `<name>-foresail` is named after it"
)
_NAME_PATTERN = "^[a-z]([-a-z0-9]{0,52}[a-z0-9])?$"


class RoutingPolicy(ApiObject):
    """Routes requests to the models of a ModelPool within declared cost limits."""

    cel: ClassVar = (rule(f"self.metadata.name.matches('{_NAME_PATTERN}')", _NAME_MESSAGE),)

    api_version: Literal["foresail.dev/v1alpha1"] = API_VERSION
    kind: Literal["RoutingPolicy"] = "RoutingPolicy"
    metadata: ObjectMeta
    spec: RoutingPolicySpec
    status: object = None

    @model_validator(mode="after")
    def _rules(self) -> RoutingPolicy:
        if re.fullmatch(_NAME_PATTERN, self.metadata.name) is None:
            raise ValueError(_NAME_MESSAGE)
        return self
