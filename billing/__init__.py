"""The rules of billing, pure: no await, no clock, no environment, no I/O."""
