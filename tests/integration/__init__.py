"""Adapters and servers against real counterparts: a database, the simulator, sockets."""
