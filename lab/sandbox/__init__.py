"""A payment gateway to test against: stateful, faulty on demand, with a ledger that is the oracle.

Speaks the sandbox gateway's HTTP API. `serve` runs it inside a program, `run` as a process.
"""

from lab.sandbox.config import (
    Fault,
    FaultPlan,
    Latency,
    Outage,
    SandboxConfig,
    SandboxFaults,
)
from lab.sandbox.ledger import LedgerError
from lab.sandbox.server import RunningSandbox, run, serve

__all__ = [
    "Fault",
    "FaultPlan",
    "Latency",
    "LedgerError",
    "Outage",
    "RunningSandbox",
    "SandboxConfig",
    "SandboxFaults",
    "run",
    "serve",
]
