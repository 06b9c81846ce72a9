"""A coordinator with PW_ENCRYPT between honest devices, some of them lost, and nonsense from anybody, in any order.

The model is the average of those whose uploads were accepted, or the iteration failed. Nonsense is what a server can
tell to be such: this mode leaves it nothing to tell a well-formed share of a wrong value by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from fuzz_budget import fuzz
from hypothesis import given
from hypothesis import strategies as st
from secure_world import Member, World, average, job, trained

from mindfl.protocol import (
    ClientShare,
    PlainText,
    RequestExchangeKeys,
    RequestShareSecrets,
    RequestUpdateModel,
    SendReconstructSecret,
)

IDS = ("a", "b", "c", "d", "e")


class Player:
    """An honest device, which takes its steps in order; ``left`` numbers the next one, None: it gave up."""

    def __init__(self, world: World, fl_id: str, uploaded: list[str], steps: int) -> None:
        self._world = world
        self._uploaded = uploaded
        self._lost_before = steps
        self.member = Member(world, fl_id, 1)
        self._answers: dict[str, Any] = {}
        self._sent: Any = None
        self.left: int | None = 0

    def step(self) -> bool:
        """Take the next step; return whether it succeeded."""
        if self.left is None or self.left == self._lost_before:
            return False
        name, make = self._steps()[self.left]
        # What cannot be made twice is sent again as it is.
        self._sent = self._sent or make()
        if name == "reveal":
            self._book(self._sent)
        answer = self._world.send(self._sent)
        if isinstance(answer, PlainText) or answer.retcode not in (200, 201):
            self.left = None
            return False
        if answer.retcode == 201:
            return False
        self._sent = None
        self.left = self.left + 1 if self.left + 1 < len(self._steps()) else None
        self._answers[name] = answer
        if name == "upload":
            self._uploaded.append(self.member.fl_id)
        if name == "keys":
            self.member.meet(answer)
        if name == "secrets":
            self.member.device.receive(answer.encrypted_shares)
        return True

    def _book(self, request: SendReconstructSecret) -> None:
        survivors = self._answers["list"].clients
        for share in request.reconstruct_secret_shares or ():
            self._world.revealed.setdefault(share.fl_id or "", set()).add("seed" if share.fl_id in survivors else "key")

    def _steps(self) -> list[tuple[str, Callable[[], Any]]]:
        member = self.member
        return [
            ("start", member.start),
            ("exchange", member.exchange),
            ("keys", member.keys),
            ("share", member.share),
            ("secrets", member.secrets),
            ("upload", member.upload),
            ("list", member.listed),
            ("reveal", lambda: member.reveal(self._answers["list"])),
        ]


def shares(*values: bytes | None) -> st.SearchStrategy[tuple[ClientShare, ...]]:
    """Draw shares, each of which has one of ``values``."""
    ids, places = st.sampled_from([*IDS, "x", "", None]), st.sampled_from([0, -1, 1, 2, 2**31 - 1])
    share = st.builds(ClientShare, fl_id=ids, share=st.sampled_from(values), index=places)
    return st.lists(share, min_size=1, max_size=5).map(tuple)


#: no key, short, long, of low order
KEYS = st.sampled_from([None, b"", bytes(31), bytes(33), bytes(32), b"\1" + bytes(31)])
FAULTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "exchange": st.fixed_dictionaries({"s_pk": KEYS}) | st.fixed_dictionaries({"c_pk": KEYS}),
    "share": st.fixed_dictionaries({"encrypted_shares": shares(None, b"", bytes(97)) | st.none()}),
    "upload": st.sampled_from(
        [
            {"feature_map": None},
            {"feature_map": {"conv.weight": np.ones(10, np.float32)}},
            {"feature_map": {**trained("a", 1), "fc.weight": np.ones(6, np.float32)}},
            {"feature_map": {**trained("a", 1), "fc.weight": np.full(7, np.nan, np.float32)}},
        ]
    ),
    "reveal": st.fixed_dictionaries({"reconstruct_secret_shares": shares(None, b"", b"\xff" * 33, bytes(34))}),
}
BLANK: dict[str, Any] = {
    "exchange": RequestExchangeKeys(
        ind_iv=bytes(16), pw_iv=bytes(16), pw_salt=bytes(32), c_pk=b"9" * 32, s_pk=b"9" * 32
    ),
    "share": RequestShareSecrets(),
    "upload": RequestUpdateModel(fl_name="any", feature_map=trained("b", 1)),
    "reveal": SendReconstructSecret(),
}


@st.composite
def nonsense(draw: st.DrawFn) -> Any:
    """Draw a request that must not change anything: of a device, of another iteration, or of an unknown device."""
    name = draw(st.sampled_from(list(FAULTS)))
    common = {"fl_id": draw(st.sampled_from(IDS)), "iteration": 1, "timestamp": "1"}
    match draw(st.sampled_from(["content", "iteration", "stranger"])):
        case "content":
            common.update(draw(FAULTS[name]))
        case "iteration":
            common["iteration"] = draw(st.sampled_from([0, 2, -1, 2**31 - 1]))
        case _:
            common["fl_id"] = draw(st.sampled_from([None, "", "x", "aa"]))
    return replace(BLANK[name], **common)


@fuzz(60)
@given(
    clients=st.integers(3, 5),
    ratios=st.sampled_from([(1.0, 1.0), (0.6, 1.0), (0.6, 0.8)]),
    turns=st.lists(st.one_of(st.integers(0, 4), st.integers(0, 4), nonsense()), max_size=60),
    lost=st.dictionaries(st.integers(0, 4), st.integers(0, 7), max_size=2),
)
def test_nonsense_changes_nothing(
    clients: int, ratios: tuple[float, float], turns: list[Any], lost: dict[int, int]
) -> None:
    least, shared = ratios
    threshold = max(1, math.ceil(clients * least) - 2)
    settings = {"update_model_ratio": least, "share_secrets_ratio": shared, "reconstruct_secrets_threshold": threshold}
    world = World(job("PW_ENCRYPT", clients, **settings))
    uploaded: list[str] = []
    players = [Player(world, fl_id, uploaded, lost.get(place, 8)) for place, fl_id in enumerate(IDS[:clients])]
    for turn in turns:
        if not isinstance(turn, int):
            answer = world.send(turn)
            assert isinstance(answer, PlainText) or answer.retcode in (200, 201, 300, 400)
        elif turn < clients:
            players[turn].step()
    while sum(player.step() for player in players):
        pass
    while world.coordinator.iteration == 1:
        world.now = max(world.now, world.coordinator.next_deadline() or 0)
        world.coordinator.tick(world.now)
    record = world.records[0]
    if not record.valid:
        assert lost
        return
    counted = uploaded[: world.config.update_quota]
    flat = np.concatenate([record.model["conv.weight"], record.model["fc.weight"]])
    assert np.abs(flat - average(counted, 1)).max() < 1e-6
    assert all(len(kinds) == 1 for kinds in world.revealed.values())
