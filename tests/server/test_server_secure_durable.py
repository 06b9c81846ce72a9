"""Secure aggregation in a job that survives its server, and what its state folder holds of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from secure_world import INITIAL, Member, World, job

from mindfl.privacy.secagg import Secret
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock

IDS = ("a", "bé", "c", "d", "e")
KINDS = {
    "PW_ENCRYPT": {"reconstruct_secrets_threshold": 2, "update_model_ratio": 0.8},
    "PW_EXACT": {"update_model_ratio": 0.8, "exact_corrupt_ratio": 0.0},
    "STABLE_PW_ENCRYPT": {},
}
CLOCK = Clock(lambda: 5_000_000_000, lambda: 1_795_333_460_000_000_000)


class StoredWorld(World):
    """The same on a journal; :meth:`crash` continues with a copy of what a killed server left."""

    def __init__(self, config: Any, folder: Path) -> None:
        super().__init__(config)
        self._folder = folder
        self.crashes = 0
        self._open(folder)

    def crash(self) -> None:
        """Forget everything but the files as they are now."""
        self.crashes += 1
        copy = self._folder.with_name(f"crash {self.crashes}")
        self.job._saver.submit(lambda: None).result()  # a copy takes files one by one, a crash all at once
        shutil.copytree(self._folder, copy)
        self.job.close()
        self._folder = copy
        self._open(copy)

    def files(self) -> bytes:
        """Return all that is stored."""
        return b"".join(path.read_bytes() for path in sorted(self._folder.rglob("*")) if path.is_file())

    def _open(self, folder: Path) -> None:
        self.job = DurableJob(folder, self.config, INITIAL, clock=CLOCK, on_iteration_end=self.records.append)
        self.coordinator = self.job.coordinator
        self.now = CLOCK.now_ms()

    def send(self, request: Any) -> Any:
        return self.job.handle(request, self.now).response


def steps(world: World) -> list[Callable[[], None]]:
    """Return the requests of an iteration of all devices but one, which is lost before its upload."""
    members = [Member(world, fl_id, 1) for fl_id in IDS]
    lists: dict[Member, Any] = {}
    stable = world.config.encrypt_type == "STABLE_PW_ENCRYPT"
    uploaders = members if stable else members[:4]

    def each(those: list[Member], take: Callable[[Member], object]) -> list[Callable[[], None]]:
        def one(member: Member) -> Callable[[], None]:
            def act() -> None:
                assert take(member) is not False

            return act

        return [one(member) for member in those]

    def ok(request: Any) -> bool:
        return world.accepted(request) is not None

    done = each(members, lambda member: ok(member.start()))
    done += each(members, lambda member: ok(member.exchange()))
    done += each(members, lambda member: member.meet(world.accepted(member.keys())))
    if not stable:
        done += each(members, lambda member: ok(member.share()))
        done += each(members, lambda member: member.device.receive(world.accepted(member.secrets()).encrypted_shares))
    done += each(uploaders, lambda member: ok(member.upload()))
    if not stable:
        done += each(uploaders, lambda member: lists.update({member: world.accepted(member.listed())}))
        done += each(uploaders, lambda member: ok(member.reveal(lists[member])))
    return done


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_killed_after_any_request_goes_on(kind: str, tmp_path: Path) -> None:
    config = job(kind, 5, **KINDS[kind])
    whole = World(config)
    for step in steps(whole):
        step()
    expected = {name: values.tobytes() for name, values in whole.coordinator.model.items()}
    assert whole.records[-1].valid
    world = StoredWorld(config, tmp_path / "state")
    for step in steps(world):
        step()
        world.crash()
    assert world.records[-1].valid and world.coordinator.iteration == 2
    assert {name: values.tobytes() for name, values in world.coordinator.model.items()} == expected
    world.job.close()


@pytest.mark.parametrize("kind", ["PW_ENCRYPT", "PW_EXACT"])
def test_no_secret_reaches_the_disk(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    made = Secret.__init__

    def note(self: Secret, value: bytes) -> None:
        seen.append(bytes(value))
        made(self, value)

    monkeypatch.setattr(Secret, "__init__", note)
    world = StoredWorld(job(kind, 5, **KINDS[kind]), tmp_path / "state")
    held: list[bytes] = []
    for step in steps(world):
        step()
        held.append(world.files())
    stored = b"".join(held)
    assert len(seen) >= 15 and all(secret not in stored for secret in set(seen))
    world.job.close()
    # What was revealed goes with the iteration: only the snapshot and the beginning of the next one are left.
    last = world.files()
    assert IDS[0].encode() in held[-2] and world.records[-1].valid
    assert len(last) < len(max(held, key=len))
