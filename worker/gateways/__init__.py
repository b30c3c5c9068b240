"""Gateways: the protocol that the charge path speaks, and one adapter per gateway.

A new gateway is a new file with a class that satisfies `Gateway` and a line in `ADAPTERS`.
"""

from collections.abc import Mapping

from worker.gateways.gateway import Capabilities, ChargeRequest, Gateway, LedgerCharge
from worker.gateways.sandbox import SandboxGateway
from worker.settings import Settings

__all__ = ["ADAPTERS", "Capabilities", "ChargeRequest", "Gateway", "LedgerCharge", "open_gateways"]

ADAPTERS = {"sandbox": SandboxGateway}


def open_gateways(settings: Settings) -> Mapping[str, Gateway]:
    """The gateways of the settings by name; open and close them in one event loop."""
    return {
        name: ADAPTERS[gateway.adapter](name, gateway)
        for name, gateway in settings.gateways.items()
    }
