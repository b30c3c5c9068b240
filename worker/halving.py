"""One bad row never stops its neighbours: what breaks a transaction is halved until it is alone.

Only the transaction is repeated, never a call to a gateway. Outages, deadlocks and timeouts break no
batch: they are raised, and the rows come back with their lease.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from worker.db import is_data_error

T = TypeVar("T")


def breaks_its_batch(error: BaseException) -> bool:
    """Whether a row is at fault: its data (SQLSTATE 22, 23), or a rule that refuses it."""
    return is_data_error(error) or isinstance(error, (AssertionError, ValueError))


async def by_halves(
    ids: Sequence[str],
    transaction: Callable[[Sequence[str]], Awaitable[T]],
    set_aside: Callable[[str, Exception], Awaitable[None]],
) -> list[T]:
    """Do `transaction` for all ids at once, or for ever smaller parts; set aside who breaks it alone.

    Returns what each transaction that committed returned.
    """
    try:
        return [await transaction(ids)]
    except Exception as error:
        if not breaks_its_batch(error):
            raise
        if len(ids) == 1:
            await set_aside(ids[0], error)
            return []
    half = len(ids) // 2
    first = await by_halves(ids[:half], transaction, set_aside)
    return first + await by_halves(ids[half:], transaction, set_aside)
