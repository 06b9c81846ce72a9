"""Devices that play iterations of secure aggregation on the real server, and what the plain average would have been."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mindfl.client.http_transport import HttpSettings, HttpTransport
from mindfl.privacy.secagg import PairwiseDevice, SeededRandom, pairwise_keys
from mindfl.protocol import (
    GetClientList,
    GetExchangeKeys,
    GetShareSecrets,
    PlainText,
    PWParams,
    Request,
    RequestFLJob,
    RequestGetModel,
    RequestShareSecrets,
    RequestUpdateModel,
    ResponseCode,
    ResponseExchangeKeys,
    ResponseFLJob,
    ResponseGetModel,
    ResponseShareSecrets,
    ResponseUpdateModel,
    ReturnClientList,
    ReturnExchangeKeys,
    ReturnShareSecrets,
    SendReconstructSecret,
    Weights,
)
from mindfl.real import FederatedConfig, FederatedServer
from mindfl.server.aggregate import FeatureLayout

LIMIT_S = 60.0
POLL_S = 0.05
LAYOUT = FeatureLayout({"conv.weight": 300, "fc.bias": 7, "fc.weight": 5000})
TableT = TypeVar("TableT")


class Fleet:
    """Devices of one process, one request after another; ``sent`` are those that the real server accepted."""

    def __init__(self, url: str, layout: FeatureLayout, stable: bool = False) -> None:
        self.sent: list[Request] = []
        self.params = PWParams()
        self._layout = layout
        self._transport = HttpTransport(HttpSettings(url=url))
        self._pairs = pairwise_keys()
        self._stable = stable

    def iteration(self, number: int, sizes: Sequence[int], lost: Sequence[int] = ()) -> tuple[Weights, Weights]:
        """Play iteration ``number``; those of ``lost`` end before they upload. Return its model and the plain average.

        ``sizes``: data size of each device.
        """
        names = [f"device-{place}" for place in range(len(sizes))]
        for name, size in zip(names, sizes, strict=True):
            self._start(name, size)
        devices = [
            PairwiseDevice(
                name, self.params, random=SeededRandom(1, name, number), pairs=self._pairs, stable=self._stable
            )
            for name in names
        ]
        staying = [place for place in range(len(sizes)) if place not in lost]
        self._exchange(devices, number)
        trained = {place: _trained(place, number, self._layout.size) for place in staying}
        for place in staying:
            hidden = trained[place] * np.float32(sizes[place]) + devices[place].mask(self._layout.size)
            self._update(names[place], number, hidden)
        if not self._stable:
            self._unmask([devices[place] for place in staying], number)
        model = self._settled(RequestGetModel(fl_name="any", iteration=number, timestamp=_now()), ResponseGetModel)
        assert model.feature_map is not None
        self._pairs.forget()
        total = sum(trained[place].astype(np.float64) * sizes[place] for place in staying)
        average = (total / sum(sizes[place] for place in staying)).astype(np.float32)
        return model.feature_map, self._layout.split(average)

    def _start(self, name: str, size: int) -> None:
        request = RequestFLJob(fl_name="any", fl_id=name, data_size=size, timestamp=_now(), eval_data_size=size)
        plan = self._settled(request, ResponseFLJob).fl_plan_config
        assert plan is not None and plan.cipher is not None and plan.cipher.pw_params is not None
        self.params = plan.cipher.pw_params

    def _exchange(self, devices: Sequence[PairwiseDevice], number: int) -> None:
        for device in devices:
            self._settled(replace(device.request, iteration=number, timestamp=_now()), ResponseExchangeKeys)
        for device in devices:
            request = GetExchangeKeys(fl_id=device.fl_id, iteration=number, timestamp=_now())
            device.meet(self._settled(request, ReturnExchangeKeys).remote_publickeys or ())
        if self._stable:
            return
        for device in devices:
            shares = RequestShareSecrets(
                fl_id=device.fl_id, encrypted_shares=device.shares(), iteration=number, timestamp=_now()
            )
            self._settled(shares, ResponseShareSecrets)
        for device in devices:
            request = GetShareSecrets(fl_id=device.fl_id, iteration=number, timestamp=_now())
            device.receive(self._settled(request, ReturnShareSecrets).encrypted_shares or ())

    def _update(self, name: str, number: int, hidden: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        request = RequestUpdateModel(
            fl_name="any",
            fl_id=name,
            iteration=number,
            feature_map=self._layout.split(hidden.astype(np.float32)),
            timestamp=_now(),
            upload_loss=0.5,
        )
        self._settled(request, ResponseUpdateModel)

    def _unmask(self, devices: Sequence[PairwiseDevice], number: int) -> None:
        # All lists first: the server closes the iteration as soon as it has shares enough.
        lists = [
            self._settled(GetClientList(fl_id=device.fl_id, iteration=number, timestamp=_now()), ReturnClientList)
            for device in devices
        ]
        for device, answer in zip(devices, lists, strict=True):
            revealed = SendReconstructSecret(
                fl_id=device.fl_id,
                reconstruct_secret_shares=device.reveal(answer.clients or ()),
                iteration=number,
                timestamp=_now(),
            )
            answered = self._transport.send(revealed, 0)
            if isinstance(answered, PlainText) or answered.retcode != ResponseCode.SUCCEED:
                break  # the iteration is over: those before were enough
            self.sent.append(revealed)

    def _settled(self, request: Request, table: Callable[..., TableT]) -> TableT:
        """Send ``request`` until the server is ready for it."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            answer = self._transport.send(request, 0)
            if not isinstance(answer, PlainText) and answer.retcode == ResponseCode.SUCCEED:
                self.sent.append(request)
                return answer  # type: ignore[return-value]
            assert time.monotonic() < deadline, answer
            time.sleep(POLL_S)


def _trained(place: int, number: int, length: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng((place, number)).normal(0, 0.3, length).astype(np.float32)


def _now() -> str:
    return str(time.time_ns() // 1_000_000)


def job(kind: str, clients: int, iterations: int, threshold: int, lost: int = 0) -> FederatedConfig:
    """Return a job whose iterations end without the last ``lost`` uploads."""
    return FederatedConfig(
        fl_name=f"secagg-{kind}-{clients}",
        iterations=iterations,
        clients=clients,
        epochs=1,
        batch_size=32,
        learning_rate=0.01,
        update_model_ratio=(clients - lost) / clients,
        manage_address=None,
        settings={
            "encrypt.encrypt_type": kind,
            "encrypt.pw_encrypt.share_secrets_ratio": 1.0,
            "encrypt.pw_encrypt.cipher_time_window": 60_000,
            "encrypt.pw_encrypt.reconstruct_secrets_threshold": threshold,
        },
    )


def play(config: FederatedConfig, folder: Path, lost: Sequence[int] = (), stable: bool = False) -> float:
    """Play all iterations; return the largest difference of a model's weight from the plain average."""
    sizes = [16 * (place + 1) for place in range(config.clients)]
    worst = 0.0
    with FederatedServer(folder, config, LAYOUT.split(np.zeros(LAYOUT.size, np.float32))) as server:
        fleet = Fleet(server.url, LAYOUT, stable)
        for number in range(1, config.iterations + 1):
            model, plain = fleet.iteration(number, sizes, lost)
            assert sorted(model) == sorted(plain)
            worst = max(worst, *(float(np.abs(model[name] - plain[name]).max()) for name in plain))
    return worst
