"""opt-mini, the bundled model, and the code that made it."""
