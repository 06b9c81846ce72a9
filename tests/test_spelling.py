"""Suggestions for words that are not known, and keywords that are refused with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

import mindfl
from mindfl.client import ClientConfig, HttpSettings, TlsSettings
from mindfl.errors import OptionError
from mindfl.experiments.femnist50 import run_experiment
from mindfl.experiments.privacy50 import run_study
from mindfl.export import export_mindir
from mindfl.export.trained import export_trained
from mindfl.real import FederatedConfig
from mindfl.real.java_settings import JavaSettings
from mindfl.server import ServerConfig
from mindfl.server.start_options import ServerOptions
from mindfl.sim import JobConfig
from mindfl.sim.benchmark import bench
from mindfl.sim.device_job import DeviceSettings
from mindfl.sim.result import Result
from mindfl.spelling import did_you_mean, nearest


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("trian", "train"),
        ("Train", "train"),
        ("TRAIN", "train"),
        ("get_model", "getModel"),
        ("getmodel", "getModel"),
        ("inferense", "inference"),
        ("one record, please", None),
        ("", None),
    ],
)
def test_nearest(word: str, expected: str | None) -> None:
    assert nearest(word, ("train", "inference", "getModel")) == expected


def test_a_hint_lists_the_words_where_none_is_near() -> None:
    assert did_you_mean("zzz", ("train", "infer")) == "choose one of train, infer"
    assert did_you_mean("tain", ("train", "infer")) == "did you mean train?"


@pytest.mark.parametrize(
    ("call", "wrong", "right"),
    [
        (JobConfig, "clinet_num", "client_num"),
        (ServerConfig, "encrypt_typ", "encrypt_type"),
        (ServerOptions, "server_nums", "server_num"),
        (ClientConfig, "pol_ms", "poll_ms"),
        (HttpSettings, "servernum", "server_num"),
        (TlsSettings, "certpath", "cert_path"),
        (DeviceSettings, "trainmodelpath", "train_model_path"),
        (FederatedConfig, "iteration", "iterations"),
        (JavaSettings, "jarPath", "jar_path"),
        (export_mindir, "optimiser", "optimizer"),
        (export_trained, "device_modl", "device_model"),
        (partial(Result.save_checkpoint, None), "fromat", "format"),
        (mindfl.convert_model, "convertor", "converter"),
        (mindfl.make_synthetic, "user", "users"),
        (mindfl.convert_leaf, "Format", "format"),
        (mindfl.convert_images, "batchsize", "batch_size"),
        (mindfl.convert_dataset, "formt", "format"),
        (mindfl.inspect_dataset, "sheets", "sheet"),
        (bench, "second", "seconds"),
        (run_experiment, "epoch", "epochs"),
        (run_study, "epoch", "epochs"),
        (mindfl.FederatedLeNetJob, "reportr", "reporter"),
    ],
)
def test_an_unknown_keyword_is_an_option_error(call: Callable[..., object], wrong: str, right: str) -> None:
    with pytest.raises(OptionError, match=wrong) as caught:
        call(**{wrong: "x"})
    assert caught.value.hint == f"did you mean {right}?"
