"""What became of messages, written down: inbox rows, rejected rows, and what the platform is told."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, assert_never

from billing.events import PlatformEvent, Rejection, one_line
from billing.lifecycle import REJECTED_TRANSITIONS, RejectedState, assert_legal
from billing.messages import MessageType, OutboxRow, unnumbered
from worker import metrics
from worker.db import Connection
from worker.platform.rounds import Judged
from worker.platform.verdicts import Applied, Missing, Refused, Result, Superseded, Verdict
from worker.store import inbox, outbox, rejects
from worker.store.inbox import Clock, InboxRow
from worker.store.rejects import NewReject, Reject, Told

ERROR_LENGTH = 500


@dataclass(slots=True)
class Tally:
    """What became of how many messages, by type; counted in metrics once it is committed."""

    counts: Counter[tuple[str, Result]] = field(default_factory=Counter)

    def add(self, type_name: str, result: Result) -> None:
        """Count one message."""
        self.counts[type_name, result] += 1

    def of(self, result: Result) -> int:
        """How many messages had this result."""
        return sum(count for (_, found), count in self.counts.items() if found is result)

    def publish(self) -> None:
        """Move the metrics on."""
        for (type_name, result), count in self.counts.items():
            for _ in range(count):
                metrics.count_platform_event(type_name, result)


async def record_rejections(
    conn: Connection,
    rejections: Sequence[tuple[Rejection, Mapping[str, Any]]],
    *,
    clock: Clock,
    tally: Tally,
) -> None:
    """Keep messages that break the contract, each with its headers, and tell the platform."""
    rows = [
        NewReject(
            r.source,
            r.event_id,
            r.type,
            RejectedState.REJECTED,
            r.field,
            r.error,
            None,
            None,
            headers,
            r.body,
        )
        for r, headers in rejections
    ]
    await _tell(conn, await rejects.insert(conn, rows, now=clock.now), clock)
    for rejection, _ in rejections:
        tally.add(rejection.type, Result.REJECTED)


async def record(
    conn: Connection,
    judged: Sequence[Judged],
    *,
    clock: Clock,
    wait: timedelta,
    tally: Tally,
) -> None:
    """Write the verdicts; what misses something is kept for at most `wait` (business time)."""
    fresh = [one for one in judged if one.item.kept is None]
    rows = [_inbox_row(one.item.event, result_of(one.verdict)) for one in fresh]
    await inbox.insert_events(conn, rows, now=clock.now)
    kept = [row for one in fresh if (row := _new_reject(one, clock, wait)) is not None]
    await _tell(conn, await rejects.insert(conn, kept, now=clock.now), clock)
    await _settle_kept(conn, [one for one in judged if one.item.kept is not None], clock, wait)
    for one in judged:
        tally.add(one.item.event.type, result_of(one.verdict))


def result_of(verdict: Verdict) -> Result:
    """The word for a verdict in the inbox and in metrics."""
    match verdict:
        case Applied():
            return Result.APPLIED
        case Superseded():
            return Result.SUPERSEDED
        case Missing():
            return Result.WAITING
        case Refused(state=RejectedState.REJECTED):
            return Result.REJECTED
        case Refused():
            return Result.REFUSED
        case _:
            assert_never(verdict)


def broken(error: BaseException) -> Refused:
    """The verdict on a message that alone breaks its transaction: one line that says how."""
    first_line = (str(error) or "no message").partition("\n")[0]
    line = one_line(f"body breaks a rule ({type(error).__name__}: {first_line})", ERROR_LENGTH)
    return Refused("body", line, RejectedState.REJECTED)


def missing_error(missing: Missing) -> str:
    """Why a message waits."""
    return one_line(f"{missing.field} names {missing.ref}: is not known yet", ERROR_LENGTH)


def _inbox_row(event: PlatformEvent, result: Result) -> InboxRow:
    return InboxRow(event.source, event.event_id, event.type, event.occurred_at, result, event.body)


def _new_reject(one: Judged, clock: Clock, wait: timedelta) -> NewReject | None:
    event, verdict = one.item.event, one.verdict
    waits_for: str | None = None
    expires_at: datetime | None = None
    match verdict:
        case Applied() | Superseded():
            return None
        case Missing(ref, field_):
            state, error = RejectedState.WAITING, missing_error(verdict)
            waits_for, expires_at = str(ref), clock.now + wait
        case Refused(field_, told, state):
            error = one_line(told, ERROR_LENGTH)
        case _:
            assert_never(verdict)
    return NewReject(
        event.source,
        event.event_id,
        event.type,
        state,
        field_,
        error,
        waits_for,
        expires_at,
        one.item.headers,
        event.body,
    )


async def _settle_kept(
    conn: Connection, judged: Sequence[Judged], clock: Clock, wait: timedelta
) -> None:
    """Move the rows of messages that were kept; what still misses the same stays as it is."""
    verdicts: list[rejects.Verdict] = []
    closed: list[Told] = []
    for one in judged:
        row = one.item.kept
        assert row is not None, "only kept messages"
        match one.verdict:
            case Applied():
                verdicts.append(_moved(row, RejectedState.APPLIED, row.field, "applied"))
            case Superseded():
                verdicts.append(_moved(row, RejectedState.APPLIED, row.field, "superseded"))
            case Missing() as missing:
                if str(missing.ref) != row.waits_for:
                    verdicts.append(_moved_on(row, missing, row.expires_at or clock.now + wait))
            case Refused(field_, told, state):
                error = one_line(told, ERROR_LENGTH)
                verdicts.append(_moved(row, state, field_, error))
                closed.append(Told(row.rejected_id, row.event_id, row.type, field_, error))
            case _:
                assert_never(one.verdict)
    await rejects.settle(conn, verdicts, now=clock.now)
    await _tell(conn, closed, clock)


def _moved(row: Reject, state: RejectedState, field_: str, error: str) -> rejects.Verdict:
    if row.state is not state:
        assert_legal(REJECTED_TRANSITIONS, row.state, state)
    return rejects.Verdict(row.rejected_id, state, field_, error, None, None)


def _moved_on(row: Reject, missing: Missing, expires_at: datetime) -> rejects.Verdict:
    """It has one thing now and misses the next; the time it may wait runs on."""
    moved = _moved(row, RejectedState.WAITING, missing.field, missing_error(missing))
    return moved._replace(waits_for=str(missing.ref), expires_at=expires_at)


async def _tell(conn: Connection, closed: Iterable[Told], clock: Clock) -> None:
    """Tell the platform which messages will have no effect."""
    await outbox.append(conn, [_event_rejected(told, clock) for told in closed])


def _event_rejected(told: Told, clock: Clock) -> OutboxRow:
    return unnumbered(
        MessageType.EVENT_REJECTED,
        subject=f"rejected:{told.rejected_id}",
        fields={
            "event_id": told.event_id or None,
            "type": told.type or None,
            "field": told.field,
            "error": told.error,
        },
        at=clock.now,
    )
