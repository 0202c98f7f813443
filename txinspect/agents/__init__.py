"""Tools for agents: each command as one, over the Model Context Protocol."""
