"""Secure aggregation over HTTP: all answers are the real server's, but for those that serve the devices better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from real_secure_answers import MODEL, Case, Said, Unexpected, check, http_post
from real_secure_scripts import (
    EXCHANGED,
    EXCHANGED_AGAIN,
    MISSING,
    REVEAL_FULL,
    REVEALED,
    REVEALED_LAST,
    SHARED,
    SHARED_AGAIN,
    STARTED,
    UPDATE_FULL,
    UPDATE_STRANGER,
    Script,
    ask,
    everybody,
    keys,
    model,
    scripts,
    shares,
    stranger,
    survivors,
)

from mindfl.protocol import PlainText
from mindfl.server import Coordinator, ServerConfig
from mindfl.server.http import BackgroundServer

SCRIPTS = scripts()
STABLE_FORM = "- 32 16 32"
BAD_KEYS = Said(400, "update key or client failed")
BAD_SHARES = "The shares of {} are not what a device sends: {}"
UNKNOWN, OWN, TWICE = (
    "a device is listed that is not among the peers",
    "a device is listed as its own peer",
    "the same device is listed twice",
)
STALE = Said(300, "iter num is error.")
#: case -> the fault in its keys; all are refused, since no other device could use them
BAD_KEY_CASES = (
    *("no ind_iv", "no pw_iv", "no pw_salt", "keys of zeros"),
    *(
        f"{name} of {length} bytes"
        for name, right in (("c_pk", 32), ("s_pk", 32), ("ind_iv", 16), ("pw_iv", 16), ("pw_salt", 32))
        for length in (0, right - 1, right + 1, 100_000)
    ),
)
#: script -> case -> the answer; every one of them differs from the real server's
DIFFERENCES: dict[str, dict[str, Said]] = {
    "pairwise_round": {
        # Keys that cannot be used are refused for good, also where the real server says 300: asking again is no use.
        "exchangeKeys no c_pk": BAD_KEYS,
        "exchangeKeys no s_pk": BAD_KEYS,
        # An answer may be lost on its way: what was accepted or given once is accepted or given again.
        "exchangeKeys quota full, a again": EXCHANGED_AGAIN,
        # One that has begun anew could read nothing of what the others send to its first keys: the next iteration can.
        "exchangeKeys a again, other keys": replace(EXCHANGED_AGAIN, retcode=300),
        "getKeys a again": keys("abcd"),
        "getKeys quota full, a again": keys("abcd"),
        "shareSecrets quota full, a again": SHARED_AGAIN,
        "getSecrets a again": shares("bcd"),
        "getClientList a again": survivors("abc"),
        "getClientList quota full, a again": survivors("abc"),
        # Whether shares came by way of getKeys is seen from the shares: these, of a device without peers, are empty.
        "shareSecrets did not get keys": Said(400, BAD_SHARES.format("a", UNKNOWN)),
        # What does not count is not answered as if it did.
        "reconstructSecrets before anybody started": replace(REVEALED, retcode=201),
        "reconstructSecrets too early": replace(REVEALED, retcode=201),
        "reconstructSecrets did not upload": Said(400, "fl_id: d is not in the update_model_clients"),
        "reconstructSecrets older iteration": STALE,
        "reconstructSecrets newer iteration": STALE,
        # The next iteration begins with the last share, not up to a second later.
        "reconstructSecrets c": REVEALED_LAST,
        "reconstructSecrets d in 2": REVEALED_LAST,
        # Those who come back with the number of the iteration that has just ended learn that all went well.
        "reconstructSecrets quota full, a again": REVEAL_FULL,
        "reconstructSecrets quota full, did not upload": STALE,
        "updateModel of the iteration that has ended": UPDATE_FULL,
        "getClientList of the iteration that has ended": survivors("abc"),
        "reconstructSecrets of the iteration that has ended": REVEAL_FULL,
        "getClientList finished": survivors("bde"),
        "reconstructSecrets finished": REVEAL_FULL,
    },
    "broken_buffers": {
        **{f"exchangeKeys {name}": BAD_KEYS for name in BAD_KEY_CASES},
        # Nothing depends on the time that a device says it is.
        "exchangeKeys no timestamp": EXCHANGED,
    },
    "spoilt_contents": {
        # Shares that would spoil the sum are refused, and good ones taken in their place.
        **{
            f"shareSecrets {name}": Said(400, BAD_SHARES.format(who, fault))
            for name, who, fault in (
                ("no list", "j", UNKNOWN),
                ("no share", "i", UNKNOWN),
                ("nothing", "a", UNKNOWN),
                ("too few", "b", OWN),
                ("an unknown receiver", "c", OWN),
                ("its own id and others", "d", OWN),
                ("a receiver twice", "e", TWICE),
                ("empty shares", "f", OWN),
            )
        },
        # More bytes than all devices' shares can take are not even read.
        "shareSecrets large shares": Said(400, "The schema of RequestShareSecrets is invalid."),
        "shareSecrets good ones after nothing": SHARED,
    },
    "spoilt_reveal": {
        # The same of revealed shares: the iteration is not lost, and the model is right.
        "reconstructSecrets a nothing": Said(
            400, BAD_SHARES.format("a", "fewer devices are left than the threshold asks for")
        ),
        # Altered shares are found out where one more device than needed reveals: so the last survivor is waited for.
        "reconstructSecrets c": REVEALED,
        "reconstructSecrets d": REVEALED_LAST,
        "getModel spoilt": Said(200, "Get model for iteration 1", ("1.00",)),
    },
    "stable_round": {
        "exchangeKeys no s_pk": BAD_KEYS,
        "exchangeKeys quota full, a again": EXCHANGED_AGAIN,
        "getKeys a again": keys("abcd", STABLE_FORM),
        # Masks cancel among those who exchanged keys only.
        "updateModel without keys": stranger(UPDATE_STRANGER, "a", 300),
    },
}


def play(script: Script, cases: Iterable[Case]) -> list[Unexpected]:
    """Return where the answers of this project's server differ from those of the script."""
    config = ServerConfig(
        fl_name="secure-answers",
        fl_iteration_num=script.iterations,
        start_fl_job_threshold=script.clients,
        update_model_ratio=script.update_model_ratio,
        encrypt_type=script.encrypt_type,
        share_secrets_ratio=script.share_secrets_ratio,
        reconstruct_secrets_threshold=script.threshold,
    )
    with BackgroundServer(Coordinator(config, MODEL)) as server:
        return check(http_post(server.url), cases, stable=script.encrypt_type.startswith("STABLE"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_answers_are_the_real_servers_but_for_known_differences(name: str) -> None:
    script = SCRIPTS[name]
    found = play(script, script.cases)
    assert {each.case: each.got for each in found} == DIFFERENCES[name]
    # The iteration or time that an answer names is another one only where the iteration has ended sooner.
    assert {each.fault for each in found} <= {"", "names iteration 2 in 1", "names iteration 3 in 2"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_difference_is_one(name: str) -> None:
    """What differs in the iteration alone is the last share's answer, and the request right after it."""
    real = {case.name: case.said for case in SCRIPTS[name].cases}
    same = [case for case, said in DIFFERENCES[name].items() if said == real[case]]
    assert all(case.startswith("reconstructSecrets") for case in same)


def test_nothing_is_served_that_the_job_does_not_ask_for() -> None:
    endpoints = [endpoint for endpoint in SCRIPTS["pairwise_round"].cases if endpoint.name.endswith("finished")]
    secure = {case.endpoint for case in endpoints} - {"startFLJob", "updateModel"}
    config = ServerConfig(fl_iteration_num=1, start_fl_job_threshold=2)
    with BackgroundServer(Coordinator(config, MODEL)) as server:
        answers = [http_post(server.url)(endpoint, b"any") for endpoint in sorted(secure)]
    assert answers == [PlainText(MISSING.text)] * 6


def before_secrets() -> list[Case]:
    """Return the cases up to the moment at which all four may fetch their shares."""
    names = "abcd"
    return [
        *everybody("startFLJob", "abcde", STARTED),
        *everybody("exchangeKeys", names, EXCHANGED),
        *everybody("getKeys", names, keys(names)),
        *everybody("shareSecrets", names, SHARED),
    ]


def test_who_did_not_get_secrets_may_not_upload() -> None:
    refused = ask("updateModel", "a", stranger(UPDATE_STRANGER, "a", 300), "did not get secrets")
    script = replace(SCRIPTS["pairwise_round"], iterations=1)
    assert play(script, [*before_secrets(), refused]) == []


def test_the_model_is_right_though_one_comes_late_to_its_secrets() -> None:
    """The last to fetch its shares uploads first."""
    fetched = [ask("getSecrets", who, shares("abcd".replace(who, ""))) for who in "abcd"]
    cases = [
        *before_secrets(),
        *fetched,
        *everybody("updateModel", "dca", Said(200, "success not ready")),
        *everybody("getClientList", "acd", survivors("acd")),
        *everybody("reconstructSecrets", "dc", REVEALED),
        ask("reconstructSecrets", "a", REVEALED_LAST),
        model(1, "1.00"),
    ]
    found = play(replace(SCRIPTS["pairwise_round"], iterations=2), cases)
    assert [(each.case, each.fault) for each in found] == [("reconstructSecrets a", "names iteration 2 in 1")]
