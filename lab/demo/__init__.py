"""The demo: a virtual year of a small course platform on an embedded Postgres, in one process."""

from lab.demo.run import run_demo

__all__ = ["run_demo"]
