"""Step 3 of a charge: the network tries of one attempt, same key, same bytes, within its send window."""

from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_random

from billing.outcomes import ChargeOutcome, NotSent, Outcome, Unknown
from worker import limits
from worker.clock import machine_now
from worker.gateways import Gateway


async def send_once_or_twice(
    gateway: Gateway, *, request: bytes, key: str, deadline: float
) -> ChargeOutcome:
    """No byte after `deadline` (monotonic); a network error is repaired once, same key.

    The row of this key was committed before; returns an outcome for whatever happens.
    """

    async def one_try() -> ChargeOutcome:
        if machine_now() >= deadline - limits.TRY_SECONDS:
            return NotSent("the send window is over")
        return await gateway.charge(request=request, key=key)

    first = await one_try()
    if not _is_repairable(first):
        return first
    known = [first]

    async def known_or_again() -> ChargeOutcome:
        return known.pop() if known else await one_try()

    retrying = AsyncRetrying(
        stop=stop_after_attempt(limits.NETWORK_TRIES),
        wait=wait_random(0.05, 0.3),
        retry=retry_if_result(_is_repairable),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    last: ChargeOutcome = await retrying(known_or_again)
    # What the first try may have done is not undone by a second one that never left.
    return first if isinstance(last, NotSent) else last


def _is_repairable(outcome: Outcome) -> bool:
    match outcome:
        case NotSent():
            return True
        case Unknown(answered=answered, retry_after_seconds=after):
            return not answered and after is None
        case _:
            return False
