"""A slow gateway must not sit on every seat: it may hold at most half of a worker's slots."""

from collections import Counter


class Seats:
    """Batches in work by gateway, in one event loop. With one gateway alone all seats are its own."""

    def __init__(self, *, slots: int, gateways: int) -> None:
        self._most = slots if gateways <= 1 else max(1, slots // 2)
        self._taken: Counter[str] = Counter()

    def take(self, gateway: str) -> bool:
        """Take a seat; False if the gateway holds its share already."""
        if self._taken[gateway] >= self._most:
            return False
        self._taken[gateway] += 1
        return True

    def leave(self, gateway: str) -> None:
        """Give the seat back."""
        self._taken[gateway] -= 1
