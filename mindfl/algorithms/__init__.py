"""Federated algorithms: what clients do beside plain training, and how the server makes the next model.

An algorithm is a value: its settings never change, and whatever it remembers is named arrays that the job keeps, saves
and gives back. So a run can be resumed, replayed and spread over processes with the same bits.
"""

from __future__ import annotations

from mindfl.algorithms.base import Algorithm, Client, Correction, Round, Step, Upload, zeros_like
from mindfl.algorithms.sampler import Sampler, Uniform

__all__ = ["Algorithm", "Client", "Correction", "Round", "Sampler", "Step", "Uniform", "Upload", "zeros_like"]
