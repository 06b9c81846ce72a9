"""The server's side of secure aggregation: its state in an iteration, and its answers. No sockets, no clock.

A job without masks imports :mod:`~mindfl.server.secagg.steps` alone; the other modules need the package cryptography.
"""
