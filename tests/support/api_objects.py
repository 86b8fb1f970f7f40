"""Pools and policies as users write them, and for every CEL rule one that breaks it.

Owns the examples. It must not know how they are applied.
"""

from __future__ import annotations

from typing import Any

import yaml

Object = dict[str, Any]
Part = str | int

MINIMAL_POOL = """
apiVersion: foresail.dev/v1alpha1
kind: ModelPool
metadata: {name: minimal}
spec:
  models:
    - name: small
      upstreams: [{name: main, url: "https://example.test/v1"}]
      contextWindowTokens: 8192
      maxOutputTokens: 1024
"""

MINIMAL_POLICY = """
apiVersion: foresail.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: minimal}
spec:
  poolRef: {name: minimal}
  router: {strategy: Cheapest}
"""

# Every field is set in one of these, so that every constraint is met by a broken copy below.
FULL_POOL = """
apiVersion: foresail.dev/v1alpha1
kind: ModelPool
metadata: {name: full}
spec:
  models:
    - name: org/small:8b@v1
      upstreams:
        - name: main
          protocol: OpenAI
          url: https://example.test/v1
          model: small-2026
          outputLimitField: MaxCompletionTokens
          auth: {scheme: Header, headerName: api-key, secretRef: {name: keys.example, key: small_key}}
          limits: {concurrentRequests: 8, requestsPerMinute: 600, tokensPerMinute: 200000}
          timeouts: {connectMilliseconds: 2000, firstByteSeconds: 60, idleSeconds: 30, totalSeconds: 600}
          onClientCancel: Drain
          streamUsage: NotSupported
      price:
        inputPerMillionTokens: "0.25"
        outputPerMillionTokens: "2.00"
        cachedInputPerMillionTokens: "0.025"
        cacheWriteShortPerMillionTokens: "0.3125"
        cacheWriteLongPerMillionTokens: "0.5"
        imagePerMillionTokens: "0.3"
        audioPerMillionTokens: "4"
        perRequest: "0.005"
        tiers:
          - aboveInputTokens: 4096
            inputPerMillionTokens: "0.5"
            outputPerMillionTokens: "3"
            cachedInputPerMillionTokens: "0.05"
            cacheWriteShortPerMillionTokens: "0.625"
            cacheWriteLongPerMillionTokens: "1"
            imagePerMillionTokens: "0.6"
            audioPerMillionTokens: "8"
      tokenCount:
        method: Tokenizer
        tokenizer:
          volumeClaim: {name: tokenizers, path: small/tokenizer.json}
          digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        maxTokensPerByte: 2
        overheadTokens: 64
        maxTokensPerImage: 1600
        maxTokensPerAudio: 50000
      contextWindowTokens: 8192
      maxOutputTokens: 1024
      defaultMaxOutputTokens: 512
      minOutputTokens: 16
      capabilities: [Tools, JSONSchema]
  outlierDetection: {consecutiveFailures: 3, ejectionSeconds: 20}
"""

BACKEND_POOL = """
apiVersion: foresail.dev/v1alpha1
kind: ModelPool
metadata: {name: backend}
spec:
  models:
    - name: small
      upstreams:
        - name: main
          backendRef: {group: "", kind: Service, name: vllm, port: 8000, scheme: https, pathPrefix: /openai/v1}
          auth: {scheme: None}
      tokenCount:
        method: Tokenizer
        tokenizer: {uri: "file:///srv/tokenizers/small.json", digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}
      contextWindowTokens: 8192
      maxOutputTokens: 1024
"""

FULL_POLICY = """
apiVersion: foresail.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: full}
spec:
  poolRef: {name: full}
  aliases: [auto, smart]
  router:
    strategy: Learned
    artifact:
      volumeClaim: {name: artifacts, path: routers/knn}
      digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    deadlineMilliseconds: 100
    defaultModel: small
    failureMode: FailClose
  objective: {tradeoff: {costWeightPercent: 50}}
  costLimits:
    perRequest: "0.01"
    budgets:
      - name: monthly
        amount: "100.50"
        window: {calendar: {unit: Month, timeZone: Europe/Berlin}}
        scope: Tenant
        overrides: [{tenant: team-a, amount: "25"}]
        softThresholdPercent: 80
        hardAction: Cheapest
        overdraft: "5"
        mode: Enforce
    ledger:
      type: Redis
      redis:
        url: rediss://redis.example.test:6380/1
        username: foresail
        secretRef: {name: redis, key: password}
        caSecretRef: {name: redis-tls, key: ca.crt}
      timeoutMilliseconds: 200
    onLedgerUnavailable: FailOpen
  fallback: {maxAttempts: 2, models: Same, retryBudgetPercent: 10}
  tenants:
    anonymous: Allow
    apiKeys: {secretRef: {name: tenants}}
    rules: [{name: team-a, models: [small]}]
  serving: {mode: Gateway, replicas: 2}
"""

LOCAL_POLICY = """
apiVersion: foresail.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: local}
spec:
  poolRef: {name: full}
  router:
    strategy: Learned
    artifact:
      uri: file:///var/lib/foresail/artifact
      digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  objective: {cheapestWithinPercentOfBest: {percent: 5}}
  costLimits:
    budgets:
      - {name: recent, amount: "1", window: {rolling: {seconds: 3600}}, mode: Observe}
    ledger: {type: Embedded, storage: {volumeClaimName: ledger}}
"""

CONDITION = """
type: Ready
status: "False"
reason: PodsNotReady
message: 0 of 2 pods are available
observedGeneration: 3
lastTransitionTime: "2026-01-01T00:00:00Z"
"""

STATUS: dict[str, Object] = {
    "ModelPool": {"observedGeneration": 3, "models": 2, "conditions": [yaml.safe_load(CONDITION)]},
    "RoutingPolicy": {
        "observedGeneration": 3,
        "snapshotHash": "sha256:" + "0" * 64,
        "endpoint": "http://full-foresail.default.svc/v1",
        "availableReplicas": 1,
        "conditions": [yaml.safe_load(CONDITION)],
    },
}

EXAMPLES = {
    name: yaml.safe_load(text)
    for name, text in {
        "minimal pool": MINIMAL_POOL,
        "full pool": FULL_POOL,
        "backend pool": BACKEND_POOL,
        "minimal policy": MINIMAL_POLICY,
        "full policy": FULL_POLICY,
        "local policy": LOCAL_POLICY,
    }.items()
}

REMOVED = object()
MODEL: tuple[Part, ...] = ("spec", "models", 0)
UPSTREAM: tuple[Part, ...] = (*MODEL, "upstreams", 0)
ROUTER: tuple[Part, ...] = ("spec", "router")
LIMITS: tuple[Part, ...] = ("spec", "costLimits")
BUDGET: tuple[Part, ...] = (*LIMITS, "budgets", 0)

# What no schema can say alone: (example, field, new value or REMOVED, field that is named, message).
RULES: list[tuple[str, tuple[Part, ...], Any, str, str]] = [
    (
        "full pool",
        (*MODEL, "tokenCount", "tokenizer"),
        REMOVED,
        "spec.models[0].tokenCount",
        "`tokenizer` must be set if, and only if, `method` is `Tokenizer`",
    ),
    (
        "full pool",
        (*MODEL, "tokenCount", "method"),
        "Bytes",
        "spec.models[0].tokenCount",
        "`tokenizer` must be set if, and only if, `method` is `Tokenizer`",
    ),
    (
        "full pool",
        (*MODEL, "tokenCount", "tokenizer", "volumeClaim"),
        REMOVED,
        "spec.models[0].tokenCount.tokenizer",
        "exactly one of `uri` and `volumeClaim` must be set",
    ),
    (
        "backend pool",
        (*MODEL, "tokenCount", "tokenizer", "volumeClaim"),
        {"name": "tokenizers", "path": "small.json"},
        "spec.models[0].tokenCount.tokenizer",
        "exactly one of `uri` and `volumeClaim` must be set",
    ),
    (
        "full pool",
        (*UPSTREAM, "url"),
        REMOVED,
        "spec.models[0].upstreams[0]",
        "exactly one of `url` and `backendRef` must be set",
    ),
    (
        "backend pool",
        (*UPSTREAM, "url"),
        "https://example.test/v1",
        "spec.models[0].upstreams[0]",
        "exactly one of `url` and `backendRef` must be set",
    ),
    (
        "full pool",
        (*UPSTREAM, "auth", "secretRef"),
        REMOVED,
        "spec.models[0].upstreams[0].auth",
        "`secretRef` must be set, unless `scheme` is `None`",
    ),
    (
        "backend pool",
        (*UPSTREAM, "auth", "secretRef"),
        {"name": "a", "key": "b"},
        "spec.models[0].upstreams[0].auth",
        "`secretRef` must be set, unless `scheme` is `None`",
    ),
    (
        "full pool",
        (*UPSTREAM, "auth", "headerName"),
        REMOVED,
        "spec.models[0].upstreams[0].auth",
        "`headerName` must be set if, and only if, `scheme` is `Header`",
    ),
    (
        "full pool",
        (*UPSTREAM, "auth", "headerName"),
        "Host",
        "spec.models[0].upstreams[0].auth",
        "`headerName` must be a header other than connection, content-length, content-type, host, transfer-encoding, which "
        "describe the request itself",
    ),
    (
        "full pool",
        (*UPSTREAM, "auth", "scheme"),
        "Bearer",
        "spec.models[0].upstreams[0].auth",
        "`headerName` must be set if, and only if, `scheme` is `Header`",
    ),
    (
        "full pool",
        (*MODEL, "defaultMaxOutputTokens"),
        1025,
        "spec.models[0]",
        "`defaultMaxOutputTokens` must be less than or equal to `maxOutputTokens`",
    ),
    (
        "minimal pool",
        (*MODEL, "minOutputTokens"),
        1025,
        "spec.models[0]",
        "`minOutputTokens` must be less than or equal to `maxOutputTokens`",
    ),
    (
        "full pool",
        (*MODEL, "minOutputTokens"),
        513,
        "spec.models[0]",
        "`minOutputTokens` must be less than or equal to `defaultMaxOutputTokens`",
    ),
    (
        "minimal pool",
        (*MODEL, "maxOutputTokens"),
        8193,
        "spec.models[0]",
        "`maxOutputTokens` must be less than or equal to `contextWindowTokens`",
    ),
    (
        "full pool",
        (*MODEL, "price", "tiers", 0, "aboveInputTokens"),
        8192,
        "spec.models[0]",
        "`price.tiers[].aboveInputTokens` must be less than `contextWindowTokens`",
    ),
    (
        "full pool",
        (*UPSTREAM, "limits"),
        {},
        "spec.models[0].upstreams[0].limits",
        "at least one of `concurrentRequests`, `requestsPerMinute`, `tokensPerMinute` must be set",
    ),
    (
        "full pool",
        (*UPSTREAM, "timeouts", "firstByteSeconds"),
        601,
        "spec.models[0].upstreams[0].timeouts",
        "`firstByteSeconds` must be less than or equal to `totalSeconds`",
    ),
    (
        "minimal policy",
        ("metadata", "name"),
        "dotted.name",
        "<nil>",
        "`metadata.name` must be at most 54 lower-case letters, digits and hyphens that start with a letter and end with a "
        "letter or a digit, because the Service `<name>-foresail` is named after it",
    ),
    (
        "full policy",
        (*ROUTER, "artifact", "volumeClaim"),
        REMOVED,
        "spec.router.artifact",
        "exactly one of `uri` and `volumeClaim` must be set",
    ),
    (
        "full policy",
        (*ROUTER, "artifact", "uri"),
        "file:///a",
        "spec.router.artifact",
        "exactly one of `uri` and `volumeClaim` must be set",
    ),
    (
        "full policy",
        (*ROUTER, "artifact"),
        REMOVED,
        "spec.router",
        "`artifact` must be set if, and only if, `strategy` is `Learned`",
    ),
    (
        "full policy",
        (*ROUTER, "strategy"),
        "Cheapest",
        "spec.router",
        "`artifact` must be set if, and only if, `strategy` is `Learned`",
    ),
    (
        "minimal policy",
        (*ROUTER, "strategy"),
        "Default",
        "spec.router",
        "`defaultModel` must be set if `strategy` is `Default`",
    ),
    (
        "full policy",
        ("spec", "objective"),
        {},
        "spec.objective",
        "exactly one of `tradeoff` and `cheapestWithinPercentOfBest` must be set",
    ),
    (
        "full policy",
        ("spec", "objective", "cheapestWithinPercentOfBest"),
        {"percent": 5},
        "spec.objective",
        "exactly one of `tradeoff` and `cheapestWithinPercentOfBest` must be set",
    ),
    (
        "full policy",
        ("spec", "tenants", "apiKeys"),
        REMOVED,
        "spec.tenants",
        "`apiKeys` must be set if there are `rules`",
    ),
    (
        "full policy",
        ("spec", "tenants", "rules", 0, "name"),
        "anonymous",
        "spec.tenants.rules[0]",
        "`name` must be another word than `anonymous`, which is the word for callers without a key",
    ),
    (
        "full policy",
        (*BUDGET, "window", "rolling"),
        {"seconds": 60},
        "spec.costLimits.budgets[0].window",
        "exactly one of `calendar` and `rolling` must be set",
    ),
    (
        "local policy",
        (*BUDGET, "window"),
        {},
        "spec.costLimits.budgets[0].window",
        "exactly one of `calendar` and `rolling` must be set",
    ),
    (
        "full policy",
        (*BUDGET, "scope"),
        REMOVED,
        "spec.costLimits.budgets[0]",
        "`scope` must be `Tenant` if there are `overrides`",
    ),
    (
        "full policy",
        (*BUDGET, "overdraft"),
        REMOVED,
        "spec.costLimits.budgets[0]",
        "`overdraft` must be set if, and only if, `hardAction` is `Cheapest`",
    ),
    (
        "local policy",
        (*BUDGET, "overdraft"),
        "1",
        "spec.costLimits.budgets[0]",
        "`overdraft` must be set if, and only if, `hardAction` is `Cheapest`",
    ),
    (
        "full policy",
        (*BUDGET, "mode"),
        "Observe",
        "spec.costLimits.budgets[0]",
        "`hardAction` must be `Reject` if `mode` is `Observe`",
    ),
    (
        "local policy",
        (*BUDGET, "softThresholdPercent"),
        50,
        "spec.costLimits.budgets[0]",
        "`softThresholdPercent` must be absent if `mode` is `Observe`",
    ),
    (
        "full policy",
        (*LIMITS, "ledger", "redis"),
        REMOVED,
        "spec.costLimits.ledger",
        "`redis` must be set if, and only if, `type` is `Redis`",
    ),
    (
        "full policy",
        (*LIMITS, "ledger", "redis", "url"),
        "redis://redis.example.test:6379",
        "spec.costLimits.ledger.redis",
        "`caSecretRef` must be absent unless `url` begins with `rediss://`",
    ),
    (
        "full policy",
        (*LIMITS, "ledger", "storage"),
        {"volumeClaimName": "ledger"},
        "spec.costLimits.ledger",
        "`storage` must be absent if `type` is `Redis`",
    ),
    (
        "full policy",
        (*LIMITS, "ledger"),
        REMOVED,
        "spec",
        "`serving.replicas` must be at most 1 with an enforced budget, unless `costLimits.ledger.type` is `Redis`",
    ),
    (
        "local policy",
        ("spec", "serving"),
        {"replicas": 2},
        "spec",
        "`serving.replicas` must be at most 1 with `costLimits.ledger.storage`",
    ),
]
