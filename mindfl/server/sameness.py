"""Whether a server was given what the job that it joins, or goes on with, was begun with.

Texts about weights are those of the MindSpore Federated 0.1.0 server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import MISSING, asdict, fields
from typing import Any, TypeAlias

from mindfl.server.aggregate import FeatureLayout
from mindfl.server.server_config import ServerConfig

Features: TypeAlias = Mapping[str, Sequence[int]]
"""By name of a weight: its size in bytes, and 1 where it is aggregated, 0 where it keeps its value."""

_FLOAT_BYTES = 4
_DEFAULTS = {item.name: item.default for item in fields(ServerConfig) if item.default is not MISSING}


def features(layout: FeatureLayout, constant: Set[str]) -> Features:
    """Return the features of weights in ``layout``, of which ``constant`` are not aggregated."""
    sizes = {name: part.stop - part.start for name, part in layout.slices.items()}
    return {name: [_FLOAT_BYTES * size, int(name not in constant)] for name, size in sizes.items()}


def other_features(own: Features, job: Features) -> str:
    """Return how a server's ``own`` features differ from those of the ``job``, or "" where they do not."""
    if len(own) != len(job):
        return f"The number {len(own)} of local features != the number {len(job)} declared in the distributed cache"
    for name, (size, aggregated) in job.items():
        if name not in own:
            where = f"cannot find feature {name} in local"
            return f"The features are inconsistent with that declared in distributed cache: {where}"
        for what, mine, theirs in (("size", own[name][0], size), ("require_aggr", own[name][1], aggregated)):
            if mine != theirs:
                return (
                    f"The feature {what} {mine} of local != that {theirs} declared in the distributed cache, "
                    f"feature: {name}"
                )
    return ""


def other_settings(own: ServerConfig, *accepted: Mapping[str, Any]) -> list[str]:
    """Return the settings of a server in which it differs from the nearest of those ``accepted``, as "name job -> own".

    Settings that an earlier version of mindfl did not know have their defaults.
    """
    now = json.loads(json.dumps(asdict(own)))
    found = []
    for each in accepted:
        job = {**_DEFAULTS, **each}
        keys = [key for key in {**job, **now} if job.get(key) != now.get(key)]
        found.append([f"{key} {job.get(key)} -> {now.get(key)}" for key in keys])
    return min(found, key=len, default=[])
