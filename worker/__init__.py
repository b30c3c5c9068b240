"""What is done: actors, gateways, the platform link and notices; every write but the leases."""
