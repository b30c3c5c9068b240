"""All SQL of the worker: one constant and one function per statement, one file per table group."""
