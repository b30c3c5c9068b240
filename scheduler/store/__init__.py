"""The scheduler's SQL: claims, the census, the invariants. It writes leases and nothing else."""
