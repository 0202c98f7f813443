"""A patch: what is compared, where it is made, and the two sides that it is between."""
