"""The form in which weights travel: the options of a simulated job and of a server alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from mindfl.options.declaration import option

if TYPE_CHECKING:
    from mindfl.modes import UploadMode

EncryptType = Literal["NOT_ENCRYPT", "DP_ENCRYPT", "SIGNDS", "PW_ENCRYPT", "STABLE_PW_ENCRYPT", "PW_EXACT"]
UploadCompressType = Literal["NO_COMPRESS", "DIFF_SPARSE_QUANT"]
DownloadCompressType = Literal["NO_COMPRESS", "QUANT"]

_NAMES = get_args(EncryptType)
_mode = partial(option, group="Privacy and compression")


_FORMS = (
    "Form of uploads: DP_ENCRYPT clips and adds noise, SIGNDS sends one sign and a few indices, PW_ENCRYPT, "
    "STABLE_PW_ENCRYPT and PW_EXACT (mindfl's own) are secure aggregation"
)


@dataclass(frozen=True, kw_only=True)
class EncryptTypeOption:
    """The upload mode."""

    encrypt_type: UploadMode | str = _mode(
        _NAMES[0],
        objects=True,
        known=_NAMES,
        help=f"{_FORMS}; your own: FILE.py:CLASS or MODULE:CLASS of a mindfl.modes.UploadMode, settings follow a "
        "colon, as in levels.py:Levels:levels=7.",
    )


@dataclass(frozen=True, kw_only=True)
class EncryptOptions:
    """The upload mode in a server's YAML file: one of mindfl's own."""

    encrypt_type: EncryptType = _mode(_NAMES[0], help=f"{_FORMS}.")


@dataclass(frozen=True, kw_only=True)
class DpOptions:
    """Differential privacy, added by the clients."""

    dp_eps: float = _mode(50.0, above=0, help="DP_ENCRYPT: epsilon of one upload.")
    dp_delta: float = _mode(0.01, above=0, below=1, help="DP_ENCRYPT: delta of one upload.")
    dp_norm_clip: float = _mode(
        1.0,
        above=0,
        help="DP_ENCRYPT: bound on the norm of updates, as a multiple of how far the first iteration moved the model.",
    )


@dataclass(frozen=True, kw_only=True)
class SignDsOptions:
    """Uploads of signs of selected dimensions."""

    sign_k: float = _mode(0.01, above=0, most=0.25, help="SIGNDS: share of the dimensions to choose from.")
    sign_eps: float = _mode(100.0, above=0, most=100, help="SIGNDS: epsilon of one upload.")
    sign_thr_ratio: float = _mode(
        0.6, least=0.5, most=1, help="SIGNDS: expected share of an upload's dimensions that are among these."
    )
    sign_global_lr: float = _mode(0.1, above=0, help="SIGNDS: step of the model along a dimension.")
    sign_dim_out: int = _mode(0, least=0, most=50, help="SIGNDS: dimensions of an upload; 0: as many as fit.")


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Secure aggregation by masks."""

    reconstruct_secrets_threshold: int | None = _mode(
        None,
        least=1,
        shown="more than 2/3 of the clients",
        help="PW_ENCRYPT: number of shares that recover a client's secret.",
    )
    exact_corrupt_ratio: float = _mode(
        0.1,
        least=0,
        most=0.9,
        help="PW_EXACT: share of the clients that may work together with the server.",
    )


@dataclass(frozen=True, kw_only=True)
class CompressionOptions:
    """Forms in which weights travel."""

    upload_compress_type: UploadCompressType = _mode(
        "NO_COMPRESS",
        help="Compression of uploads: DIFF_SPARSE_QUANT sends some of the changes, in 8 bits.",
    )
    upload_sparse_rate: float = _mode(
        0.4, above=0, most=1, help="DIFF_SPARSE_QUANT: share of the values that are sent."
    )
    download_compress_type: DownloadCompressType = _mode(
        "NO_COMPRESS", help="Compression of downloads: QUANT sends weights in 8 bits."
    )


@dataclass(frozen=True, kw_only=True)
class ModeOptions(CompressionOptions, MaskOptions, SignDsOptions, DpOptions, EncryptTypeOption):
    """Privacy and compression; see :mod:`mindfl.privacy`. Defaults and ranges are MindSpore Federated 0.1.0's."""
