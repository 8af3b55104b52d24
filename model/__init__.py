"""The decoder, the Composer model around it, its checkpoints, and the ways out of here."""
