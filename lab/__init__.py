"""What would happen: simulated people, banks, servers and time; production code never imports it."""
