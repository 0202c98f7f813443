"""Vectors that steer a model: made, read from files, and tried."""
