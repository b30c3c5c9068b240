"""When it is done: claims what is due and rings the doorbell."""
