"""What platform messages say: one model per type, named after it.

Strict: a number in quotes is no number. Unknown fields are kept in `model_extra`. What is optional may
be null. Source: docs/contract/platform-events.md, table "In", and LIFECYCLE rules where named.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from billing.calendar import MAX_INTERVAL_COUNT, Interval, IntervalUnit
from billing.events.fields import (
    Amount,
    ClockTime,
    Count,
    Country,
    Currency,
    Days,
    Email,
    Id,
    Instant,
    Language,
    OneCount,
    OnlyFalse,
    PositiveAmount,
    Quantity,
    Schedule,
    Text,
    Token,
    Zone,
    expected,
    not_built,
)


class Told(BaseModel):
    """A part of a message; fields that the contract does not name stay in `extra`."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    @property
    def extra(self) -> dict[str, Any]:
        """The fields nobody knows, as they came."""
        return dict(self.model_extra or {})


class PassOffer(Told):
    """An all-products pass for who has paid `threshold_minor`; kept for a later version."""

    plan_id: Id
    threshold_minor: PositiveAmount
    currency: Currency


class SellerUpserted(Told):
    seller_id: Id
    name: Text
    timezone: Zone | None = None
    locale: Language | None = None
    report_email: Email | None = None
    statement_descriptor: Text | None = None
    pass_offer: PassOffer | None = None
    late_money: Literal["refund", "keep"] | None = None


class IntervalTold(Told):
    unit: Literal["day", "week", "month", "year"]
    count: Count

    @model_validator(mode="after")
    def _is_no_slip(self) -> Self:
        most = MAX_INTERVAL_COUNT[IntervalUnit(self.unit)]
        if self.count > most:
            raise expected(f"at most {most} with unit {self.unit}", field="count")
        return self

    @property
    def value(self) -> Interval:
        """The interval of the calendar."""
        return Interval(IntervalUnit(self.unit), self.count)


class Price(Told):
    """A flat price or one per unit; an amount of 0 is a free plan (LIFECYCLE 18)."""

    model: Text
    currency: Currency
    unit_amount_minor: Amount
    tax_minor: Amount | None = None
    apply_to_existing: OnlyFalse | None = None

    @field_validator("model")
    @classmethod
    def _is_built(cls, model: str) -> str:
        if model in ("graduated", "volume", "usage"):
            raise not_built()
        if model not in ("flat", "per_unit"):
            raise expected("flat, per_unit, graduated, volume or usage")
        return model


class ChargingWindow(Told):
    opens: ClockTime = Field(alias="from")
    closes: ClockTime = Field(alias="to")

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.opens >= self.closes:
            raise expected(f"later than {self.opens}, on the same day", field="to")
        return self


class RetryPolicy(Told):
    """The policy as told; `DunningPolicy.from_contract` reads it with its defaults."""

    max_retries: int | None = Field(None, ge=0, le=20)
    window_days: int | None = Field(None, ge=1, le=365)
    schedule: Schedule | None = None
    on_exhausted: Literal["cancel", "unpaid", "pause", "past_due"] | None = None
    grace_days: int | None = Field(None, ge=0)
    billing_date_follows_recovery: OnlyFalse | None = None
    new_card_retries_now: bool | None = None
    action_days: int | None = Field(None, ge=1, le=365)
    charging_window: ChargingWindow | None = None

    @model_validator(mode="after")
    def _grace_fits(self) -> Self:
        window_days = 28 if self.window_days is None else self.window_days
        if self.grace_days is not None and self.grace_days > window_days:
            raise expected(f"at most window_days, which is {window_days}", field="grace_days")
        return self


class Reminder(Told):
    days_before: int = Field(ge=0, le=365)
    segment: Text | None = None


class PlanUpserted(Told):
    plan_id: Id
    seller_id: Id
    product_id: Id
    name: Text
    interval: IntervalTold
    price: Price
    trial_days: Days | None = None
    cycles: Count | None = None
    installments: OneCount | None = None
    proration: Literal["day", "second", "none"] | None = None
    retry_policy: RetryPolicy | None = None
    reminders: list[Reminder] | None = None
    grants_all_products: OnlyFalse | None = None
    catch_up_periods: Count | None = None
    while_past_due: Literal["hold", "bill"] | None = None
    ceiling_minor: PositiveAmount | None = None


class CustomerUpserted(Told):
    customer_id: Id
    email: Email
    name: Text | None = None
    locale: Language | None = None
    timezone: Zone | None = None
    country: Country | None = None
    segments: list[Text] | None = None


class PaymentMethodAttached(Told):
    payment_method_id: Id
    customer_id: Id
    gateway: Id
    token: Token
    kind: Literal["card", "sepa_debit", "ach_debit", "upi_autopay", "boleto", "pix", "wallet"]
    brand: Text | None = None
    funding: Literal["credit", "debit", "prepaid"] | None = None
    country: Country | None = None
    exp_month: int | None = Field(None, ge=1, le=12)
    exp_year: int | None = Field(None, ge=2000, le=2999)
    fingerprint: Text | None = None
    default: bool | None = None
    backup_consent: bool | None = None


class PaymentMethodUpdated(Told):
    payment_method_id: Id
    exp_month: int | None = Field(None, ge=1, le=12)
    exp_year: int | None = Field(None, ge=2000, le=2999)
    token: Token | None = None
    fingerprint: Text | None = None
    source: Literal["updater", "customer"]


class PaymentMethodRemoved(Told):
    payment_method_id: Id


class SubscriptionCreated(Told):
    subscription_id: Id
    customer_id: Id
    plan_id: Id
    payment_method_id: Id
    quantity: Quantity | None = None
    starts_at: Instant | None = None
    trial_days: Days | None = None
    anchor_day: int | None = Field(None, ge=1, le=31)
    timezone: Zone | None = None
    paid_through: Instant | None = None
    coupon_id: Id | None = None

    @field_validator("coupon_id")
    @classmethod
    def _is_built(cls, coupon_id: str | None) -> None:
        if coupon_id is not None:
            raise not_built()


class CancelRequested(Told):
    subscription_id: Id
    at: Literal["now", "period_end"]
    origin: Literal["customer", "seller", "admin"]
    reason: Text | None = None


class CancelUndone(Told):
    subscription_id: Id


class PaymentMethodChanged(Told):
    subscription_id: Id
    payment_method_id: Id


class SyncRequested(Told):
    subscription_id: Id
    from_sequence: int | None = Field(None, ge=1, le=2**63 - 1)


class CollectionRequested(Told):
    subscription_id: Id | None = None
    invoice_id: Id | None = None
    by: Literal["customer", "seller", "admin"]
    payment_method_id: Id | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.subscription_id is None and self.invoice_id is None:
            raise expected("there, or invoice_id", field="subscription_id")
        return self


class PaymentReported(Told):
    """A gateway's later word on a payment, told by the platform: a hint to look, never the truth."""

    gateway: Id
    idempotency_key: Text | None = Field(None, min_length=1, max_length=255)
    gateway_ref: Text | None = Field(None, min_length=1, max_length=255)
    amount_minor: PositiveAmount
    currency: Currency
    decline_code: Text | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.idempotency_key is None and self.gateway_ref is None:
            raise expected("there, or gateway_ref", field="idempotency_key")
        return self


Payload = (
    SellerUpserted
    | PlanUpserted
    | CustomerUpserted
    | PaymentMethodAttached
    | PaymentMethodUpdated
    | PaymentMethodRemoved
    | SubscriptionCreated
    | CancelRequested
    | CancelUndone
    | PaymentMethodChanged
    | SyncRequested
    | CollectionRequested
    | PaymentReported
)
