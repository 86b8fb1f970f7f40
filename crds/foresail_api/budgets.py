"""Limits on what a policy or each tenant may spend in a window of time.

Owns the shape that users write. It must not know what was spent, nor who keeps count.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from foresail_api.common import ApiObject, DnsLabel, list_map, rule, unique
from foresail_api.tenants import TenantName

# At most 10^15 nano-dollars: an amount, its overdraft and one attempt together stay below 2^53.
Amount = Annotated[str, Field(min_length=1, max_length=13, pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$")]


class CalendarUnit(StrEnum):
    """How long a calendar window is. Weeks begin on Monday."""

    HOUR = "Hour"
    DAY = "Day"
    WEEK = "Week"
    MONTH = "Month"


class BudgetScope(StrEnum):
    """Whose spend counts together."""

    POLICY = "Policy"
    TENANT = "Tenant"


class HardAction(StrEnum):
    """What happens where a budget is used up."""

    REJECT = "Reject"
    CHEAPEST = "Cheapest"


class BudgetMode(StrEnum):
    """Whether a budget limits what is spent, or only counts it."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError("must be a time zone of the IANA data base, for example `Europe/Berlin`") from None
    return name


TimeZone = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$"), AfterValidator(_known_zone)
]


class Calendar(ApiObject):
    """Windows that begin and end with the calendar."""

    unit: CalendarUnit = Field(description="How long a window is. Weeks begin on Monday.")
    time_zone: TimeZone = Field(
        "UTC",
        description="IANA name of the time zone whose calendar it is, for example `Europe/Berlin`. A day of its change to or from summer time has 23 or 25 hours.",
    )


class Rolling(ApiObject):
    """The last so many seconds."""

    seconds: Annotated[int, Field(strict=True, ge=60, le=2_678_400)] = Field(
        description="Length of the window, at most 31 days. Spend leaves it in steps of a sixtieth of that, never early."
    )


_WINDOW_MESSAGE = "exactly one of `calendar` and `rolling` must be set"


class BudgetWindow(ApiObject):
    """Over which time spend is added up."""

    cel: ClassVar = (rule("has(self.calendar) != has(self.rolling)", _WINDOW_MESSAGE),)

    calendar: Calendar | None = Field(None, description="Windows of the calendar, one after the other.")
    rolling: Rolling | None = Field(None, description="A window that always ends now.")

    @model_validator(mode="after")
    def _rules(self) -> BudgetWindow:
        if (self.calendar is None) == (self.rolling is None):
            raise ValueError(_WINDOW_MESSAGE)
        return self


class BudgetOverride(ApiObject):
    """The amount of one tenant."""

    tenant: TenantName = Field(
        description="The tenant, as the entries of the Secret of keys name it. `anonymous` is all callers without a key, together."
    )
    amount: Amount = Field(description='US dollars that this tenant may spend in a window, for example "25".')


_OVERRIDES_MESSAGE = "`scope` must be `Tenant` if there are `overrides`"
_OVERDRAFT_MESSAGE = "`overdraft` must be set if, and only if, `hardAction` is `Cheapest`"
_OBSERVED_ACTION_MESSAGE = "`hardAction` must be `Reject` if `mode` is `Observe`"
_OBSERVED_THRESHOLD_MESSAGE = "`softThresholdPercent` must be absent if `mode` is `Observe`"


class Budget(ApiObject):
    """What may be spent in a window of time."""

    cel: ClassVar = (
        rule(
            "!has(self.scope) || self.scope == 'Tenant' || !has(self.overrides) || size(self.overrides) == 0",
            _OVERRIDES_MESSAGE,
        ),
        rule("!has(self.hardAction) || (self.hardAction == 'Cheapest') == has(self.overdraft)", _OVERDRAFT_MESSAGE),
        rule(
            "!has(self.mode) || !has(self.hardAction) || self.mode == 'Enforce' || self.hardAction == 'Reject'",
            _OBSERVED_ACTION_MESSAGE,
        ),
        rule(
            "!has(self.mode) || self.mode == 'Enforce' || !has(self.softThresholdPercent)", _OBSERVED_THRESHOLD_MESSAGE
        ),
    )

    name: DnsLabel = Field(
        description="Name of this budget, unique within the policy. What was spent is kept under it: another name starts from nothing."
    )
    amount: Amount = Field(
        description='US dollars that may be spent in a window, for example "100". A new amount applies at once and keeps what was spent.'
    )
    window: BudgetWindow = Field(description="Over which time spend is added up.")
    scope: BudgetScope = Field(
        BudgetScope.POLICY,
        description="`Policy` adds up all requests of the policy; `Tenant` those of each tenant, and those of callers without a key together.",
    )
    overrides: Annotated[list[BudgetOverride], Field(max_length=256), unique("tenant")] = Field(
        default_factory=list,
        description="Tenants with another amount than `amount`.",
        json_schema_extra={**list_map("tenant"), "default": []},
    )
    soft_threshold_percent: Annotated[int, Field(strict=True, ge=1, le=99)] | None = Field(
        None,
        description="Share of the amount above which the weight of cost rises, to the cheapest models only at 100 %. Never if absent.",
    )
    hard_action: HardAction = Field(
        HardAction.REJECT,
        description="`Reject` never spends more than the amount; `Cheapest` lets the cheapest model spend `overdraft` more, then rejects.",
    )
    overdraft: Amount | None = Field(
        None,
        description='US dollars that may be spent beyond the amount, if `hardAction` is `Cheapest`, for example "5".',
    )
    mode: BudgetMode = Field(
        BudgetMode.ENFORCE, description="`Enforce` limits what is spent; `Observe` counts it and never refuses."
    )

    @model_validator(mode="after")
    def _rules(self) -> Budget:
        if self.scope != BudgetScope.TENANT and self.overrides:
            raise ValueError(_OVERRIDES_MESSAGE)
        if (self.hard_action == HardAction.CHEAPEST) != (self.overdraft is not None):
            raise ValueError(_OVERDRAFT_MESSAGE)
        if self.mode != BudgetMode.ENFORCE and self.hard_action != HardAction.REJECT:
            raise ValueError(_OBSERVED_ACTION_MESSAGE)
        if self.mode != BudgetMode.ENFORCE and self.soft_threshold_percent is not None:
            raise ValueError(_OBSERVED_THRESHOLD_MESSAGE)
        return self
