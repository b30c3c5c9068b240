"""renewd measures itself: real Postgres with fsync, real RabbitMQ, the sandbox gateway, real processes."""

from lab.bench.command import run_bench

__all__ = ["run_bench"]
