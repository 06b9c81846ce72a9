"""What the real server answers in secure aggregation is what the scripts say; run with ``pytest -m real_server``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from real_secure_answers import MODEL, Body, Case, Said, Unexpected, check, http_post
from real_secure_scripts import (
    EXCHANGED,
    REVEALED,
    SHARED,
    STARTED,
    UPDATED,
    Script,
    ask,
    everybody,
    keys,
    model,
    scripts,
    shares,
    survivors,
)

from mindfl.protocol import AnyResponse, ResponseExchangeKeys
from mindfl.real import FederatedConfig, FederatedServer

SCRIPTS = scripts()
NAMES = "abc"
ROUNDS: dict[str, list[Case]] = {
    "exchangeKeys": everybody("exchangeKeys", NAMES, EXCHANGED),
    "getKeys": everybody("getKeys", NAMES, keys(NAMES)),
    "shareSecrets": everybody("shareSecrets", NAMES, SHARED),
    "getSecrets": [ask("getSecrets", who, shares(NAMES.replace(who, ""))) for who in NAMES],
    "updateModel": everybody("updateModel", NAMES, UPDATED),
    "getClientList": everybody("getClientList", NAMES, survivors(NAMES)),
    "reconstructSecrets": everybody("reconstructSecrets", NAMES, REVEALED),
}
WINDOWS = [endpoint for endpoint in ROUNDS if endpoint != "updateModel"]


@pytest.mark.real_server
@pytest.mark.usefixtures("real_interpreter")
@pytest.mark.parametrize("name", SCRIPTS)
def test_real_server_answers_as_the_script_says(name: str, tmp_path: Path) -> None:
    script = SCRIPTS[name]

    with FederatedServer(tmp_path, config(script), MODEL) as server:
        found = check(http_post(server.url), script.cases, stable=script.encrypt_type.startswith("STABLE"))

    assert not found, "\n".join(map(str, found))


@pytest.mark.real_server
@pytest.mark.usefixtures("real_interpreter")
def test_each_round_has_a_window_from_its_first_request_on(tmp_path: Path) -> None:
    script = windows()

    with FederatedServer(tmp_path, config(script), MODEL) as server:
        found = check(http_post(server.url), script.cases)
        log = (server.folder / "server_0.log").read_text(errors="replace")

    assert not found, "\n".join(map(str, found))
    reasons = re.findall(r"Iteration (\d+) is invalid\. Reason: (.*)", log)
    expected = [
        f"Round {endpoint} timeout! This iteration is invalid. Proceed to next iteration." for endpoint in WINDOWS
    ]
    assert reasons == [(str(number), reason) for number, reason in enumerate(expected, 1)]


def windows() -> Script:
    """Return a script in each of whose iterations one device alone comes to another round."""
    cases: list[Case] = []
    for number, endpoint in enumerate(WINDOWS, 1):
        cases += everybody("startFLJob", NAMES, STARTED)
        for each, whole in ROUNDS.items():
            if each == endpoint:
                cases.append(whole[0])
                break
            cases += whole
        cases.append(model(number, "0.00"))
    return Script(
        encrypt_type="PW_ENCRYPT",
        clients=len(NAMES),
        update_model_ratio=1.0,
        share_secrets_ratio=1.0,
        threshold=1,
        iterations=len(WINDOWS) + 1,
        settings={"encrypt.pw_encrypt.cipher_time_window": 2_000},
        cases=tuple(cases),
    )


def config(script: Script) -> FederatedConfig:
    """Return the job of ``script`` for the real server."""
    pairwise = {
        "share_secrets_ratio": script.share_secrets_ratio,
        "cipher_time_window": 60_000,
        "reconstruct_secrets_threshold": script.threshold,
    }
    entries = {f"encrypt.pw_encrypt.{name}": value for name, value in pairwise.items()}
    return FederatedConfig(
        fl_name="secure-answers",
        iterations=script.iterations,
        clients=script.clients,
        epochs=1,
        batch_size=32,
        learning_rate=0.01,
        update_model_ratio=script.update_model_ratio,
        manage_address=None,
        settings={"encrypt.encrypt_type": script.encrypt_type, **entries, **script.settings},
    )


def test_other_answers_are_told() -> None:
    sent: list[Body] = []

    def stand_in(endpoint: str, message: Body) -> AnyResponse:
        sent.append(message)
        return ResponseExchangeKeys(
            retcode=200, reason="text", iteration=2 if len(sent) == 3 else 1, next_req_time="1" if len(sent) < 4 else ""
        )

    good, other = Said(200, "text"), Said(300, "text")
    cases = [
        Case(name=str(place), endpoint="exchangeKeys", who="a", said=said, body=b"\1")
        for place, said in enumerate([good, other, good, good, other])
    ]

    found = check(stand_in, cases, instead={"4": good})

    assert found == [
        Unexpected("1", other, good),
        Unexpected("2", good, good, "names iteration 2 in 1"),
        Unexpected("3", good, good, "names the time ''"),
    ]
    assert sent == [b"\1"] * 5


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_case_has_a_name_of_its_own(name: str) -> None:
    names = [case.name for case in SCRIPTS[name].cases]

    assert len(set(names)) == len(names)
