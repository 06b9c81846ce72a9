"""Experiments whose results can be compared, and the speed of a machine: programs over :class:`mindfl.FederatedJob`."""
