"""The scripts of :mod:`real_secure_answers`: what devices ask in jobs with secure aggregation, right and wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from real_secure_answers import Case, Said

from mindfl.protocol import ClientShare, RequestExchangeKeys, encode

FINISHED = Said(text="The server's training job is disabled or finished.")
MISSING = Said(text="HTTP 404")
STARTED = Said(200, "success")
NOT_STARTED = "devices_meta for {} is not set. Please retry later."

EXCHANGED = Said(200, "Success, but the server is not ready yet.")
EXCHANGED_AGAIN = Said(200, "The server has received the request, please do not request again.")
EXCHANGE_FULL = Said(300, "Current amount for exchangeKey is enough. Please retry later.")
EXCHANGE_STALE = Said(300, "iter num is error.")
NO_KEY = Said(300, "update key or client failed")

# getKeys and getSecrets: their tables have no reason.
WAIT, STALE, STRANGER = Said(201), Said(300), Said(400)
KEYS_AGAIN = Said(300)
SECRETS_AGAIN = Said(201)

SHARED = Said(200, "OK")
SHARED_AGAIN = Said(200, "client sharesecret already exists.")
SHARE_FULL = Said(300, "Current amount for ShareSecretsKernel is enough.")
SHARE_STALE = Said(300, "ShareSecretsKernel iteration invalid")
SHARE_STRANGER = Said(400, "client share secret is not in getkeys list. && client is illegal")
SHARE_EMPTY = Said(300, "update client of shares and shares failed")

UPDATED = Said(200, "success not ready")
UPDATE_FULL = Said(300, "Current amount for updateModel is enough. Please retry later.")
UPDATE_STRANGER = "fl_id: {} is not in get_secrets_clients. Please retry later."

LIST_WAIT = Said(201, "The server is not ready.", ())
LIST_STALE = Said(300, "iter num is error.", ())
LIST_AGAIN = Said(201, "update get update model clients failed", ())
LIST_STRANGER = "fl_id: {} is not in the update_model_clients"

REVEALED = Said(200, "Success, but the server is not ready to reconstruct secret yet.")
REVEALED_LAST = Said(200, "Success,the secret is reconstructing.")
REVEAL_FULL = Said(200, "Current amount for ReconstructSecretsKernel is enough.")
REVEAL_FULL_STRANGER = Said(300, "Current amount for ReconstructSecretsKernel is enough.")
REVEAL_FAILED = Said(300, "the secret restructs failed.")

MODEL_WAIT = Said(
    201,
    "The model is not ready yet for iteration {}. Maybe this is because\n"
    "1. Client doesn't not send enough update model request.\n"
    "2. Worker has not push weights to server.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A job, with further ``settings`` under the keys of its YAML file, and the cases to play."""

    encrypt_type: str
    clients: int
    update_model_ratio: float
    share_secrets_ratio: float
    threshold: int
    cases: tuple[Case, ...]
    iterations: int = 2
    settings: Mapping[str, Any] = field(default_factory=dict)


def ask(endpoint: str, who: str, said: Said, name: str = "", **changes: Any) -> Case:
    """Return a case; see :class:`Case`."""
    return Case(name=f"{endpoint} {name or who}", endpoint=endpoint, who=who, said=said, changes=changes)


def everybody(endpoint: str, names: Iterable[str], said: Said, name: str = "") -> list[Case]:
    """Return a case for each of ``names``."""
    return [ask(endpoint, who, said, f"{who} {name}".strip()) for who in names]


def model(number: int, value: str) -> Case:
    """Return a case that waits for the model of iteration ``number``, all of whose weights are ``value``."""
    given = Said(200, f"Get model for iteration {number}", (value,))
    return Case(name=f"model of {number}", endpoint="getModel", who="", said=given, patient=True)


def keys(names: Iterable[str], form: str = "32 32 16 32") -> Said:
    """Return the answer with everybody's keys."""
    return Said(200, None, tuple(f"{name} {form}" for name in names))


def shares(senders: str) -> Said:
    """Return the answer with the shares of ``senders``."""
    return Said(200, None, tuple(senders))


def survivors(names: str) -> Said:
    """Return the answer with the list of uploaders."""
    return Said(200, "send clients_list succeed!", tuple(names))


def stranger(text: str, who: str, retcode: int, listed: tuple[str, ...] | None = None) -> Said:
    """Return a refusal whose ``text`` names the device."""
    return Said(retcode, text.format(who), listed)


def pairwise_round() -> Script:
    """5 devices start, 4 exchange keys and deposit shares, 3 upload, all 3 of them reveal; then the next iteration."""
    return Script(
        encrypt_type="PW_ENCRYPT",
        clients=5,
        update_model_ratio=0.6,
        share_secrets_ratio=0.8,
        threshold=2,
        cases=(
            *_nobody("before anybody started"),
            *everybody("startFLJob", "abcde", STARTED),
            *_exchange(),
            *_share(),
            *_upload(),
            *_reveal(),
            model(1, "1.00"),
            *_closed(),
            *_whole_iteration(),
            model(2, "1.00"),
            *_finished(),
        ),
    )


def _nobody(when: str) -> list[Case]:
    return [
        ask("exchangeKeys", "a", stranger(NOT_STARTED, "a", 300), when),
        ask("getKeys", "a", WAIT, when),
        ask("shareSecrets", "a", SHARE_STRANGER, when),
        ask("getSecrets", "a", WAIT, when),
        ask("updateModel", "a", stranger(NOT_STARTED, "a", 300), when),
        ask("getClientList", "a", LIST_WAIT, when),
        ask("reconstructSecrets", "a", REVEALED, when),
    ]


def _exchange() -> list[Case]:
    return [
        ask("exchangeKeys", "f", stranger(NOT_STARTED, "f", 300), "not started"),
        ask("exchangeKeys", "a", EXCHANGE_STALE, "older iteration", iteration=0),
        ask("exchangeKeys", "a", EXCHANGE_STALE, "newer iteration", iteration=2),
        ask("exchangeKeys", "a", NO_KEY, "no c_pk", c_pk=None),
        ask("exchangeKeys", "a", NO_KEY, "no s_pk", s_pk=None),
        ask("exchangeKeys", "a", EXCHANGED),
        ask("exchangeKeys", "a", EXCHANGED_AGAIN, "a again, other keys", s_pk=b"\1" * 32),
        *everybody("getKeys", "aez", WAIT, "too early"),
        ask("getKeys", "a", STALE, "too early, older iteration", iteration=0),
        ask("shareSecrets", "a", SHARE_STRANGER, "too early"),
        ask("updateModel", "a", stranger(UPDATE_STRANGER, "a", 300), "too early"),
        *everybody("exchangeKeys", "bcd", EXCHANGED),
        ask("exchangeKeys", "e", EXCHANGE_FULL, "quota full"),
        ask("exchangeKeys", "a", EXCHANGE_FULL, "quota full, a again"),
        ask("exchangeKeys", "f", EXCHANGE_FULL, "quota full, not started"),
        ask("exchangeKeys", "e", EXCHANGE_FULL, "quota full, older iteration", iteration=0),
        ask("getKeys", "e", STRANGER, "did not exchange"),
        ask("getKeys", "z", STRANGER, "unknown"),
        ask("getKeys", "e", STALE, "did not exchange, older iteration", iteration=0),
        ask("shareSecrets", "a", SHARE_STRANGER, "did not get keys"),
        ask("getKeys", "a", keys("abcd")),
        ask("getKeys", "a", KEYS_AGAIN, "a again"),
        *everybody("getKeys", "bcd", keys("abcd")),
        ask("getKeys", "a", KEYS_AGAIN, "quota full, a again"),
    ]


def _share() -> list[Case]:
    return [
        ask("shareSecrets", "e", SHARE_STRANGER, "did not exchange"),
        ask("shareSecrets", "e", SHARE_STALE, "did not exchange, older iteration", iteration=0),
        ask("shareSecrets", "a", SHARE_STALE, "newer iteration", iteration=2),
        ask("shareSecrets", "a", SHARED),
        ask("shareSecrets", "a", SHARED_AGAIN, "a again"),
        *everybody("getSecrets", "abe", WAIT, "too early"),
        *everybody("shareSecrets", "bcd", SHARED),
        ask("shareSecrets", "a", SHARE_FULL, "quota full, a again"),
        ask("shareSecrets", "e", SHARE_FULL, "quota full, did not exchange"),
        ask("shareSecrets", "a", SHARE_FULL, "quota full, older iteration", iteration=0),
        ask("getSecrets", "e", STRANGER, "did not deposit"),
        ask("getSecrets", "a", STALE, "older iteration", iteration=0),
        ask("getSecrets", "a", STALE, "newer iteration", iteration=2),
        ask("updateModel", "a", stranger(UPDATE_STRANGER, "a", 300), "did not get secrets"),
        ask("getSecrets", "a", shares("bcd")),
        ask("getSecrets", "a", SECRETS_AGAIN, "a again"),
        ask("getSecrets", "b", shares("acd")),
        ask("getSecrets", "c", shares("abd")),
        ask("getSecrets", "d", shares("abc")),
    ]


def _upload() -> list[Case]:
    return [
        ask("updateModel", "e", stranger(UPDATE_STRANGER, "e", 300), "did not exchange"),
        ask("updateModel", "a", UPDATED),
        ask("updateModel", "a", Said(300, "Updating metadata of UpdateModelClientList failed for fl id a"), "a again"),
        *everybody("getClientList", "abe", LIST_WAIT, "too early"),
        ask("getClientList", "a", LIST_STALE, "too early, older iteration", iteration=0),
        ask("reconstructSecrets", "a", REVEALED, "too early"),
        *everybody("updateModel", "bc", UPDATED),
        ask("updateModel", "d", UPDATE_FULL, "quota full"),
        ask("updateModel", "e", UPDATE_FULL, "quota full, did not exchange"),
        ask("getModel", "a", _model_wait(1), "masked"),
    ]


def _reveal() -> list[Case]:
    return [
        ask("getClientList", "d", stranger(LIST_STRANGER, "d", 400, ()), "did not upload"),
        ask("getClientList", "z", stranger(LIST_STRANGER, "z", 400, ()), "unknown"),
        ask("getClientList", "a", LIST_STALE, "newer iteration", iteration=2),
        ask("getClientList", "a", survivors("abc")),
        ask("getClientList", "a", LIST_AGAIN, "a again"),
        *everybody("getClientList", "bc", survivors("abc")),
        # None of these counts.
        ask("reconstructSecrets", "d", REVEALED, "did not upload"),
        ask("reconstructSecrets", "b", REVEALED, "older iteration", iteration=0),
        ask("reconstructSecrets", "c", REVEALED, "newer iteration", iteration=2),
        ask("reconstructSecrets", "a", REVEALED),
        ask("reconstructSecrets", "a", REVEALED, "a again"),
        ask("reconstructSecrets", "b", REVEALED),
        ask("getModel", "a", _model_wait(1), "as many as the threshold have revealed"),
        ask("reconstructSecrets", "c", REVEALED_LAST),
        ask("reconstructSecrets", "a", REVEAL_FULL, "quota full, a again"),
        ask("reconstructSecrets", "d", REVEAL_FULL_STRANGER, "quota full, did not upload"),
        ask("getClientList", "a", LIST_AGAIN, "quota full, a again"),
    ]


def _closed() -> list[Case]:
    when = "of the iteration that has ended"
    return [
        ask("exchangeKeys", "a", EXCHANGE_STALE, when),
        ask("getKeys", "a", STALE, when),
        ask("shareSecrets", "a", SHARE_STALE, when),
        ask("getSecrets", "a", STALE, when),
        ask("updateModel", "a", stranger(NOT_STARTED, "a", 300), when),
        ask("getClientList", "a", LIST_STALE, when),
        ask("reconstructSecrets", "a", REVEALED, when),
    ]


def _whole_iteration() -> list[Case]:
    """Return the second iteration, from which another device is missing; one more than needed is ready to reveal."""
    again = "in 2"
    return [
        *everybody("startFLJob", "abcde", STARTED, again),
        *everybody("exchangeKeys", "edcb", EXCHANGED, again),
        *everybody("getKeys", "bcde", keys("bcde"), again),
        *everybody("shareSecrets", "bcde", SHARED, again),
        *(ask("getSecrets", who, shares("bcde".replace(who, "")), f"{who} {again}") for who in "bcde"),
        *everybody("updateModel", "ebd", UPDATED, again),
        *everybody("getClientList", "bde", survivors("bde"), again),
        *everybody("reconstructSecrets", "eb", REVEALED, again),
        ask("reconstructSecrets", "d", REVEALED_LAST, f"d {again}"),
    ]


def _finished() -> list[Case]:
    endpoints = (
        "exchangeKeys",
        "getKeys",
        "shareSecrets",
        "getSecrets",
        "updateModel",
        "getClientList",
        "reconstructSecrets",
    )
    # The server knows this within a second.
    first = Case(name="startFLJob finished", endpoint="startFLJob", who="a", said=FINISHED, patient=True)
    return [first, *(ask(endpoint, "b", FINISHED, "finished") for endpoint in endpoints)]


def _model_wait(number: int) -> Said:
    return Said(MODEL_WAIT.retcode, (MODEL_WAIT.reason or "").format(number))


def broken_buffers() -> Script:
    """Bytes that are no table are refused; a table with fields missing or of any length is taken, and not looked at."""
    good = encode(RequestExchangeKeys(fl_id="a", c_pk=bytes(32), s_pk=bytes(32), iteration=1, timestamp="1"))
    buffers = {"one byte": b"\1", "64 zeros": bytes(64), "text": b"this is a text and no table", "half": good[:40]}
    refusals = {
        "exchangeKeys": Said(400, "The schema of RequestExchangeKeys is invalid."),
        "getKeys": STRANGER,
        "shareSecrets": Said(400, "The schema of RequestShareSecrets is invalid."),
        "getSecrets": STRANGER,
        "getClientList": Said(400, "The schema of GetClientList is invalid.", ()),
        "reconstructSecrets": Said(400, "The schema of SendReconstructSecret is invalid."),
    }
    missing = [(f"no {name}", {name: None}) for name in ("ind_iv", "pw_iv", "pw_salt")]
    wrong: list[tuple[str, dict[str, Any]]] = [
        (f"{name} of {length} bytes", {name: b"\3" * length})
        for name, right in (("c_pk", 32), ("s_pk", 32), ("ind_iv", 16), ("pw_iv", 16), ("pw_salt", 32))
        for length in (0, right - 1, right + 1, 100_000)
    ]
    malformed = [*missing, *wrong, ("keys of zeros", {"c_pk": bytes(32), "s_pk": bytes(32)})]
    names = [f"device-{place:02}" for place in range(30)]
    return Script(
        encrypt_type="PW_ENCRYPT",
        clients=30,
        update_model_ratio=0.1,
        share_secrets_ratio=1.0,
        threshold=2,
        cases=(
            *everybody("startFLJob", names, STARTED),
            *(
                Case(name=f"{endpoint} {name}", endpoint=endpoint, who="", said=refusal, body=body)
                for endpoint, refusal in refusals.items()
                for name, body in buffers.items()
            ),
            ask("exchangeKeys", "", stranger(NOT_STARTED, "", 300), "empty id"),
            ask("exchangeKeys", "z", stranger(NOT_STARTED, "z", 300), "not started, no s_pk", s_pk=None),
            ask("exchangeKeys", names[-1], Said(text="An inner error occurred"), "no timestamp", timestamp=None),
            *(
                ask("exchangeKeys", who, EXCHANGED, name, **changes)
                for who, (name, changes) in zip(names, malformed, strict=False)
            ),
            ask("getKeys", "a", WAIT, "no timestamp", timestamp=None),
            ask("getSecrets", "a", WAIT, "no timestamp", timestamp=None),
            ask("getClientList", "a", LIST_WAIT, "no timestamp", timestamp=None),
            ask("getSecrets", "", WAIT, "empty id"),
        ),
    )


def spoilt_contents() -> Script:
    """Shares that no device sends are taken; a list of revealed shares that is too short spoils the iteration."""
    names = "abcdefghij"
    sealed = [ClientShare(fl_id=name, share=b"\5" * 96) for name in names]
    deposits: dict[str, tuple[ClientShare, ...]] = {
        "nothing": (),
        "too few": tuple(sealed[:3]),
        "an unknown receiver": (*sealed, ClientShare(fl_id="unknown", share=b"\5" * 96)),
        "its own id and others": tuple(sealed),
        "a receiver twice": (*sealed, sealed[0]),
        "empty shares": tuple(ClientShare(fl_id=name, share=b"") for name in names),
        "large shares": tuple(ClientShare(fl_id=name, share=b"\5" * 100_000) for name in names),
    }
    return Script(
        encrypt_type="PW_ENCRYPT",
        clients=len(names),
        update_model_ratio=1.0,
        share_secrets_ratio=1.0,
        threshold=2,
        cases=(
            *everybody("startFLJob", names, STARTED),
            *everybody("exchangeKeys", names, EXCHANGED),
            *everybody("getKeys", names, keys(names)),
            ask("shareSecrets", "j", SHARE_EMPTY, "no list", encrypted_shares=None),
            ask("shareSecrets", "i", SHARE_EMPTY, "no share", encrypted_shares=(ClientShare(fl_id="a"),)),
            *(
                ask("shareSecrets", who, SHARED, name, encrypted_shares=shares)
                for who, (name, shares) in zip(names, deposits.items(), strict=False)
            ),
            ask("shareSecrets", "a", SHARED_AGAIN, "good ones after nothing"),
            ask("getSecrets", "a", WAIT, "not everybody's shares were taken"),
        ),
    )


def spoilt_reveal() -> Script:
    """A device's first call counts, whatever it reveals. With too few shares the real server then waits forever: not
    even the window of the whole iteration ends that."""
    names = "abcde"
    return Script(
        encrypt_type="PW_ENCRYPT",
        clients=len(names),
        update_model_ratio=0.8,
        share_secrets_ratio=1.0,
        threshold=2,
        cases=(
            *everybody("startFLJob", names, STARTED),
            *everybody("exchangeKeys", names, EXCHANGED),
            *everybody("getKeys", names, keys(names)),
            *everybody("shareSecrets", names, SHARED),
            *(ask("getSecrets", who, shares(names.replace(who, ""))) for who in names),
            *everybody("updateModel", "abcd", UPDATED),
            *everybody("getClientList", "abcd", survivors("abcd")),
            ask("reconstructSecrets", "a", REVEALED, "a nothing", reconstruct_secret_shares=()),
            ask("reconstructSecrets", "a", REVEALED),
            ask("reconstructSecrets", "b", REVEALED),
            ask("reconstructSecrets", "c", REVEAL_FAILED),
            ask("reconstructSecrets", "d", REVEAL_FULL),
            ask("getModel", "a", _model_wait(1), "spoilt"),
        ),
    )


def stable_round() -> Script:
    """4 devices exchange keys and upload, with no other endpoint; in the next iteration none asks for keys."""
    form = "- 32 16 32"
    missing = ("shareSecrets", "getSecrets", "getClientList", "reconstructSecrets", "pushListSign", "getListSign")
    return Script(
        encrypt_type="STABLE_PW_ENCRYPT",
        clients=4,
        update_model_ratio=1.0,
        share_secrets_ratio=0.5,
        threshold=1,
        cases=(
            *(Case(name=name, endpoint=name, who="a", said=MISSING, body=b"any") for name in missing),
            ask("exchangeKeys", "a", stranger(NOT_STARTED, "a", 300), "before anybody started"),
            ask("getKeys", "a", WAIT, "before anybody started"),
            *everybody("startFLJob", "abcd", STARTED),
            ask("exchangeKeys", "a", EXCHANGE_STALE, "older iteration", iteration=0),
            ask("exchangeKeys", "a", NO_KEY, "no s_pk", s_pk=None),
            ask("exchangeKeys", "a", EXCHANGED, "no timestamp", timestamp=None),
            ask("exchangeKeys", "a", EXCHANGED_AGAIN, "a again"),
            *everybody("getKeys", "ad", WAIT, "too early"),
            *everybody("exchangeKeys", "bcd", EXCHANGED),
            ask("exchangeKeys", "a", EXCHANGE_FULL, "quota full, a again"),
            ask("getKeys", "z", STRANGER, "unknown"),
            ask("getKeys", "a", STALE, "newer iteration", iteration=2),
            *everybody("getKeys", "abcd", keys("abcd", form)),
            ask("getKeys", "a", KEYS_AGAIN, "a again"),
            *everybody("updateModel", "cadb", UPDATED),
            model(1, "1.00"),
            ask("exchangeKeys", "a", EXCHANGE_STALE, "of the iteration that has ended"),
            ask("getKeys", "a", STALE, "of the iteration that has ended"),
            *everybody("startFLJob", "abcd", STARTED, "in 2"),
            ask("updateModel", "a", UPDATED, "without keys"),
        ),
    )


def scripts() -> dict[str, Script]:
    """Return all scripts by name."""
    return {
        "pairwise_round": pairwise_round(),
        "broken_buffers": broken_buffers(),
        "spoilt_contents": spoilt_contents(),
        "spoilt_reveal": spoilt_reveal(),
        "stable_round": stable_round(),
    }
