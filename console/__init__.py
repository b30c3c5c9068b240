"""Who asks: the `renewd` command."""
