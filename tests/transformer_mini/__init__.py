"""transformer-mini, the bundled encoder-decoder, and the code that made it."""
