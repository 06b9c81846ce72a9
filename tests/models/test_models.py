from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mindfl.errors import OptionError
from mindfl.models import INITIALIZERS, MODELS, LeNet5, NetworkSizes, model_spec
from mindfl.models._mindspore import has_avx512
from mindfl.models.initializers import initializer
from mindfl.system import interrupt_held_back


def shapes(network: LeNet5) -> dict[str, tuple[int, ...]]:
    return {parameter.name: tuple(parameter.shape) for parameter in network.trainable_params()}


def run_python(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ONEDNN", "DNNL", "GLOG"))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True).stdout


def test_lenet_is_the_reference_network() -> None:
    found = shapes(LeNet5())
    assert found == {
        "conv1.weight": (6, 3, 5, 5),
        "conv2.weight": (16, 6, 5, 5),
        "fc1.weight": (120, 400),
        "fc1.bias": (120,),
        "fc2.weight": (84, 120),
        "fc2.bias": (84,),
        "fc3.weight": (62, 84),
        "fc3.bias": (62,),
    }
    assert sum(int(np.prod(shape)) for shape in found.values()) == 66_404


def test_lenet_takes_other_classes_and_channels() -> None:
    found = shapes(LeNet5(10, 1))
    assert found["conv1.weight"] == (6, 1, 5, 5)
    assert found["fc3.weight"] == (10, 84)


def test_same_seed_same_weights() -> None:
    first, second, other = (
        [parameter.asnumpy() for parameter in LeNet5(seed=seed).trainable_params()] for seed in (3, 3, 4)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(("name", "deviation"), [("lecun", 400**-0.5), ("he", (2 / 400) ** 0.5)])
def test_scaled_initialisers_follow_the_number_of_inputs(name: str, deviation: float) -> None:
    draw = initializer(name, 0)
    weight = draw((120, 400))
    assert weight.dtype == np.float32
    assert weight.std() == pytest.approx(deviation, rel=0.02)
    assert not draw((120,)).any()


def test_torch_is_uniform_and_biases_follow_the_inputs_of_their_layer() -> None:
    draw = initializer("torch", 0)
    for outputs, inputs in ((120, 400), (84, 120)):
        for values in (draw((outputs, inputs)), draw((outputs,))):
            assert values.dtype == np.float32
            assert 0.9 < np.abs(values).max() * inputs**0.5 <= 1
    assert draw((6, 3, 5, 5)).std() == pytest.approx((1 / 75 / 3) ** 0.5, rel=0.1)


def test_lenet_with_a_bias() -> None:
    plain, biased = (model_spec(name) for name in ("lenet", "lenet:bias=true"))
    found = shapes(biased.make(biased.sizes(NetworkSizes()), init=None, seed=0))
    assert found.keys() - plain.parameters == {"conv1.bias", "conv2.bias"}
    assert not biased.parameters  # a file with other names is no fault


def test_truncated_normal_is_the_reference() -> None:
    weight = initializer("truncated_normal", 0)((120, 400))
    assert np.abs(weight).max() <= 0.04 + 1e-7
    assert weight.std() == pytest.approx(0.02 * 0.8796, rel=0.02)  # 0.8796: a normal cut off at two sigma


@pytest.mark.parametrize("options", [{"num_class": 0}, {"num_channel": -1}, {"init": "zeros"}, {"seed": -1}])
def test_unusable_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        LeNet5(**options)


def test_registry() -> None:
    spec = model_spec("lenet")
    sizes = spec.sizes(NetworkSizes(num_channel=1))
    assert (sizes.num_class, sizes.num_channel, sizes.input_shape(4)) == (62, 1, (4, 1, 32, 32))
    assert shapes(MODELS["lenet"].build(10, 1, init="he", seed=1))["fc3.bias"] == (10,)
    with pytest.raises(OptionError, match="unknown model 'vgg'"):
        model_spec("vgg")
    assert "lecun" in INITIALIZERS


def test_importing_the_package_does_not_load_mindspore() -> None:
    code = "import sys, mindfl.models, mindfl.export, mindfl.convert; print('mindspore' in sys.modules)"
    assert run_python(code).strip() == "False"


STEP = """
import numpy, os
from mindfl.models import LeNet5, import_mindspore
mindspore = import_mindspore()
LeNet5()(mindspore.Tensor(numpy.zeros((1, 3, 32, 32), numpy.float32))).asnumpy()
print("ISA", os.environ.get("ONEDNN_MAX_CPU_ISA"))
"""


@pytest.mark.skipif(not has_avx512(), reason="the CPU has no AVX-512")
def test_onednn_is_held_to_avx2_where_the_cpu_has_avx512() -> None:
    output = run_python(STEP, ONEDNN_VERBOSE="1")
    assert "ISA AVX2" in output
    assert "cpu,isa:Intel AVX2" in output
    convolutions = [line for line in output.splitlines() if "exec,cpu,convolution" in line]
    assert convolutions
    assert not any("ref:any" in line for line in convolutions)


@pytest.mark.skipif(not has_avx512(), reason="the CPU has no AVX-512")
def test_the_users_onednn_setting_stays() -> None:
    output = run_python(STEP, ONEDNN_VERBOSE="1", ONEDNN_MAX_CPU_ISA="SSE41")
    assert "ISA SSE41" in output
    assert "cpu,isa:Intel SSE4.1" in output


@pytest.fixture
def raised() -> Iterator[list[int]]:
    """Return a list to which SIGINT and SIGTERM are added when they come."""
    numbers: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: numbers.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_held_back_to_the_end_of_the_block_and_comes_as_itself(raised: list[int], number: int) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with interrupt_held_back():
        with interrupt_held_back():
            signal.raise_signal(number)
        assert raised == []
    assert raised == [number]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_an_ignored_signal_stays_ignored_in_the_block(raised: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as what a script starts with & has it
    with interrupt_held_back():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert raised == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_may_use_the_block() -> None:
    def use() -> bool:
        with interrupt_held_back():
            return True

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(use).result()


def test_cpu_flags(tmp_path: Path) -> None:
    flags = tmp_path / "cpuinfo"
    assert not has_avx512(flags)
    flags.write_text("flags : fpu avx2\n")
    assert not has_avx512(flags)
    flags.write_text("flags : fpu avx2 avx512f\n")
    assert has_avx512(flags)
