"""SQL of the lab: books of subscriptions to measure with, and what a measurement reads."""
