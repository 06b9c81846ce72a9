"""Bad arguments and settings, and what a package says of them: run by our Python and by that of the real wheel (3.9).

    python refusal_cases.py mindspore_federated

prints a JSON object: case -> names of the exception's classes below Exception, and its text without the place in the
C++ source, or null where nothing is refused. Each case has a process of its own, as a job of the real one leaves its
settings behind.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

if TYPE_CHECKING:
    from typing import Any

ADDRESS = "127.0.0.1:6668"
MISSING = object()
SETTINGS = {
    "fl_name": "Lenet",
    "fl_iteration_num": 2,
    "server_mode": "FEDERATED_LEARNING",
    "enable_ssl": False,
    "distributed_cache": {"type": "redis", "address": "127.0.0.1:1"},
    "round": {
        "start_fl_job_threshold": 2,
        "start_fl_job_time_window": 30000,
        "update_model_ratio": 1.0,
        "update_model_time_window": 30000,
        "global_iteration_time_window": 60000,
    },
    "summary": {"metrics_file": "metrics.json", "failure_event_file": "event.txt"},
}
_PW = {"share_secrets_ratio": 1.0, "cipher_time_window": 30000, "reconstruct_secrets_threshold": 1}
_TLS = {"server_cert_path": "a", "client_cert_path": "b", "ca_cert_path": "c", "cipher_list": "d"}
#: settings that other settings are for -> what switches them on
_SWITCHES = {
    "encrypt.pw_encrypt": {"encrypt.encrypt_type": "PW_ENCRYPT", "encrypt.pw_encrypt": _PW},
    "encrypt.dp_encrypt": {"encrypt.encrypt_type": "DP_ENCRYPT"},
    "encrypt.signds": {"encrypt.encrypt_type": "SIGNDS"},
    "ssl": {"enable_ssl": True, "ssl": _TLS},
}
BAD = {
    "fl_name": [MISSING, "", None, 7, True, {"a": 1}],
    "fl_iteration_num": [MISSING, None, [1], 0, -1, 2**32, 2.0, True, "x", {"a": 1}],
    "server_mode": [MISSING, 7, "OTHER"],
    "enable_ssl": [MISSING, 1, "x"],
    "distributed_cache.type": [7],
    "distributed_cache.address": [MISSING, 7, ""],
    "distributed_cache.plugin_lib_path": [7],
    "round.start_fl_job_threshold": [MISSING, 0, 2**32, 1.5],
    "round.start_fl_job_time_window": [MISSING, 0, "x"],
    "round.update_model_ratio": [MISSING, 0, 1.5, -0.5, "x", False],
    "round.update_model_time_window": [MISSING, 0],
    "round.global_iteration_time_window": [MISSING, 0],
    "summary.metrics_file": [MISSING, 3],
    "summary.failure_event_file": [MISSING, 3],
    "summary.continuous_failure_times": [0, "x"],
    "summary.participation_time_level": [3],
    "summary.data_rate_dir": [3],
    "unsupervised.eval_type": ["X", 3],
    "unsupervised.cluster_client_num": [0, "x"],
    "encrypt.encrypt_type": [7, "nonsense"],
    "encrypt.pw_encrypt.share_secrets_ratio": [MISSING, 2.0, 0],
    "encrypt.pw_encrypt.cipher_time_window": [MISSING, 0],
    "encrypt.pw_encrypt.reconstruct_secrets_threshold": [MISSING, 0],
    "encrypt.dp_encrypt.dp_eps": [0, -1.5, "x"],
    "encrypt.dp_encrypt.dp_delta": [0, 1],
    "encrypt.dp_encrypt.dp_norm_clip": [0],
    "encrypt.signds.sign_k": [0, 0.3],
    "encrypt.signds.sign_eps": [0, 101],
    "encrypt.signds.sign_thr_ratio": [0.4, 1.5],
    "encrypt.signds.sign_global_lr": [0],
    "encrypt.signds.sign_dim_out": [51, -1, 1.5],
    "compression.upload_compress_type": ["ZIP", 1],
    "compression.upload_sparse_rate": [0, 1.1],
    "compression.download_compress_type": ["ZIP"],
    "aggregation.aggregation_type": ["Fed"],
    "aggregation.iid_rate": [0, 2],
    "aggregation.total_client_num": [0],
    "ssl.server_cert_path": [MISSING, 3],
    "ssl.client_cert_path": [MISSING],
    "ssl.ca_cert_path": [MISSING],
    "ssl.cipher_list": [MISSING],
    "ssl.cert_expire_warning_time_in_day": [3, 181],
    "client_verify.pki_verify": [3],
    "client_verify.replay_attack_time_diff": [-1],
    "client_verify.root_first_ca_path": [3],
    "client.http_url_prefix": [3],
    "client.client_epoch_num": [0, 1.5],
    "client.client_batch_size": [-1],
    "client.client_learning_rate": [0, -0.5, "x"],
    "client.connection_num": [0],
}
_FILES = {"list": "[1]", "empty": "", "word": "word"}
#: Python in which ``m`` is the package, ``w`` weights and ``run`` the method of a job
ARGUMENTS = [
    *(
        f"m.FLServerJob({value}, ADDRESS)"
        for value in ("None", "7", "''", "'no.yaml'", "b'fl.yaml'", "Path('fl.yaml')")
    ),
    *(f"m.FLServerJob('fl.yaml', {value})" for value in ("None", "6668", "''")),
    *(f"m.FLServerJob('fl.yaml', ADDRESS, tcp_server_ip={value})" for value in ("None", "7", "''")),
    *(f"m.FLServerJob('fl.yaml', ADDRESS, checkpoint_dir={value})" for value in ("None", "7", "''")),
    *(f"m.FLServerJob('fl.yaml', ADDRESS, ssl_config={value})" for value in ("'x'", "{}", "m.SSLConfig")),
    "m.FLServerJob('fl.yaml', ADDRESS, nonsense=1)",
    "m.FLServerJob('fl.yaml')",
    "m.FLServerJob()",
    *(f"m.FlSchedulerJob({value}, ADDRESS)" for value in ("None", "''", "'no.yaml'")),
    *(f"m.FlSchedulerJob('fl.yaml', {value})" for value in ("None", "6668", "''")),
    "m.FlSchedulerJob('fl.yaml', ADDRESS, 'x')",
    "m.FlSchedulerJob('fl.yaml', ADDRESS, nonsense=1)",
    "m.FlSchedulerJob('fl.yaml')",
    *(f"m.SSLConfig({values})" for values in ("None, None", "1, 'b'", "'a', 2", "'', 'b'", "'a', ''", "", "'a'")),
    *(
        f"m.SSLConfig('a', 'b', {name}=3)"
        for name in ("server_cert_path", "client_cert_path", "crl_path", "cipher_list")
    ),
    *(f"m.SSLConfig('a', 'b', {name}='')" for name in ("ca_cert_path", "cipher_list")),
    *(f"m.SSLConfig('a', 'b', cert_expire_warning_time_in_day={value})" for value in ("'x'", "3.5")),
    "m.SSLConfig('a', 'b', 'c', 'd', 'e', '', 'f', 90)",
    *(
        f"m.FeatureMap().add_feature('a', {value})"
        for value in ("[1.0]", "None", "np.zeros(3)", "np.zeros(3, np.int32)")
    ),
    "m.FeatureMap().add_feature('a', np.zeros(0, np.float32))",
    "m.FeatureMap().add_feature('a')",
    "m.FeatureMap().add_feature('a', np.zeros((4, 4), np.float32)[::2], False)",
    *(f"run({value})" for value in ("", "7", "[1]", "'model'", "''", "'no.ckpt'", "'no.mindir'", "Path('no.ckpt')")),
    *(f"run({{'w': {value}}})" for value in ("[1.0]", "np.zeros(3)", "np.zeros(0, np.float32)")),
    "run({3: np.zeros(3, np.float32)})",
    *(f"run(w, callback={value})" for value in ("print", "m.Callback")),
    "run(w, nonsense=1)",
]


@cache
def cases() -> dict[str, tuple[str, str]]:
    """Return by name the text of the settings file, and the Python to run."""
    job = "m.FLServerJob('fl.yaml', ADDRESS)"
    found = {f"file: {name}": (text, job) for name, text in _FILES.items()}
    for key, values in BAD.items():
        for value in values:
            shown = "missing" if value is MISSING else repr(value)
            found[f"{key}: {shown}"] = (yaml.safe_dump(_changed(key, value)), job)
    usual = yaml.safe_dump(SETTINGS)
    return {**found, **{code: (usual, code) for code in ARGUMENTS}}


def _changed(key: str, value: object) -> dict:
    content = json.loads(json.dumps(SETTINGS))
    switch = next((changes for section, changes in _SWITCHES.items() if key.startswith(section + ".")), {})
    for name, wanted in [*json.loads(json.dumps(switch)).items(), (key, value)]:
        *sections, last = name.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = wanted
        if wanted is MISSING:
            del place[last]
    return content


def outcome(package: str, text: str, code: str) -> list[str] | None:
    """Run one case in the current folder; return class and text of the exception."""
    m = importlib.import_module(package)
    Path("fl.yaml").write_text(text)
    names: dict[str, Any] = {"m": m, "np": np, "Path": Path, "ADDRESS": ADDRESS, "w": {"w": np.zeros(3, np.float32)}}
    names["run"] = lambda *given, **named: m.FLServerJob("fl.yaml", ADDRESS, checkpoint_dir="no").run(*given, **named)
    try:
        eval(code, names)
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
        return [
            *kinds[: kinds.index("Exception")],
            re.sub(r"^\S+\.cc:\d+ \w+\] ", "", str(error).replace(str(Path.cwd()), ".")),
        ]
    return None


def main(package: str) -> None:
    """Print the outcomes of all cases."""
    importlib.import_module(package)
    found = {}
    for name, (text, code) in cases().items():
        source, sink = os.pipe()
        if os.fork() == 0:
            os.write(sink, json.dumps(outcome(package, text, code)).encode())
            os._exit(0)
        os.close(sink)
        with os.fdopen(source) as answer:
            found[name] = json.load(answer)
        os.wait()
    print(json.dumps(found, indent=1, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1])
