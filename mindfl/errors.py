"""Every error mindfl raises on purpose.

    MindflError
    ├── OptionError            an option or argument has no usable value
    ├── InterruptedRunError    Ctrl-C or SIGTERM ended a command; in Python it stays KeyboardInterrupt
    ├── StorageError           a file or folder cannot be read or written (disk full, permission)
    ├── ExportError            MindSpore could not train or export the network
    ├── ConvertError           a MINDIR could not be turned into a .ms file
    │   ├── MindirError        the MINDIR itself is missing, broken or holds something unsupported
    │   ├── ConverterMissingError   no converter back end is available
    │   ├── ConverterCrashedError   the converter was killed by a signal or hung
    │   └── VerificationError  the converter's result is not the model that went in
    ├── FetchError             the converter library could not be downloaded
    ├── ModelFormatError       a .ms file is not readable or asks for an unknown operator
    ├── DataError              a data set, user folder or image is unusable
    ├── ProtocolError          a peer broke the federated protocol
    │   └── TransportError     a server cannot be reached, or its answer did not come
    │       └── TlsError       the server's certificate, or this client's, is not accepted
    ├── AlgorithmError         a federated algorithm failed; names it and the iteration
    └── SimulationError        a federated run cannot continue
        ├── ClientError        one client failed; names client and iteration
        └── NotAggregatedError    clients trained, but the server aggregated nothing

Each class has a stable ``code`` (printed in brackets) and ``exit_code`` (docs/errors.md); each instance may carry a
``hint``, one sentence saying what to do. What needs attention but stops nothing is a :class:`MindflWarning`.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import ClassVar


class MindflError(Exception):
    """Base of all errors of mindfl. ``str(error)`` is one line without the hint.

    Args:
        message: what failed and why.
        hint: what to do about it.

    Example:
        >>> print(OptionError("epochs must be at least 1, got 0", hint="leave it out for 5").line())
        epochs must be at least 1, got 0 (leave it out for 5) [E-OPTION]
    """

    code: ClassVar[str] = "E-GENERAL"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(" ".join(message.split()))
        self.hint = " ".join(hint.split())

    def advice(self) -> str:
        """Return message and hint in one line, such as for a list of problems."""
        return f"{self} ({self.hint})" if self.hint else str(self)

    def line(self) -> str:
        """Return the whole report as one line: message, hint and code."""
        return f"{self.advice()} [{self.code}]"


class MindflWarning(UserWarning):
    """Something needs the user's attention; the work continues.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", MindflWarning)  # a warning ends the script
        >>> warnings.simplefilter("default", MindflWarning)
    """


class OptionError(MindflError):
    """An option or argument has no usable value."""

    code = "E-OPTION"
    exit_code = 2


class InterruptedRunError(MindflError):
    """Ctrl-C or SIGTERM ended a command; what was written is kept.

    For the command line only: functions and methods of mindfl let ``KeyboardInterrupt`` pass.
    """

    code = "E-INTERRUPTED"
    exit_code = 130


class StorageError(MindflError):
    """A file or folder cannot be read or written."""

    code = "E-STORAGE"
    exit_code = 3

    @classmethod
    def from_os_error(cls, error: OSError, action: str, path: str | os.PathLike[str]) -> StorageError:
        """Say that ``action`` (such as "write") failed on ``path``, and what the operating system's reason means."""
        hints = {
            errno.ENOSPC: "the disk is full: free some space or choose another folder",
            errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
            errno.EACCES: "permission denied: choose a folder you may write to",
            errno.EROFS: "the file system is read-only: choose another folder",
            errno.ENOENT: "check the path",
        }
        reason = error.strerror or str(error)
        return cls(f"cannot {action} {os.fspath(path)}: {reason}", hint=hints.get(error.errno or 0, ""))


class ExportError(MindflError):
    """MindSpore could not train or export the network."""

    code = "E-EXPORT"
    exit_code = 10


class ConvertError(MindflError):
    """A MINDIR could not be turned into a .ms file. ``log``: what the converter said, as far as it ran."""

    code = "E-CONVERT"
    exit_code = 20

    def __init__(self, message: str, *, hint: str = "", log: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log = log


class MindirError(ConvertError):
    """The MINDIR is missing, broken, or holds something the rewrite does not support."""

    code = "E-MINDIR"
    exit_code = 21


class ConverterMissingError(ConvertError):
    """No converter back end is available on this machine."""

    code = "E-CONVERTER-MISSING"
    exit_code = 22


class ConverterCrashedError(ConvertError):
    """The converter process was killed by a signal or did not end in time."""

    code = "E-CONVERTER-CRASHED"
    exit_code = 23


class VerificationError(ConvertError):
    """The converter reported success but its result is not the model that went in."""

    code = "E-VERIFY"
    exit_code = 24


class FetchError(MindflError):
    """The converter library could not be downloaded or does not have the pinned checksum."""

    code = "E-FETCH"
    exit_code = 25


class ModelFormatError(MindflError):
    """A .ms file is not readable, or asks for an operator the runtime does not have."""

    code = "E-MODEL"
    exit_code = 30


class DataError(MindflError):
    """A data set, a user's folder or an image is unusable."""

    code = "E-DATA"
    exit_code = 40


class ProtocolError(MindflError):
    """A peer broke the federated protocol."""

    code = "E-PROTOCOL"
    exit_code = 50


class TransportError(ProtocolError):
    """A server cannot be reached, or its answer did not come.

    ``sent`` tells that the request may have arrived nevertheless. ``lasting`` tells that trying again is of no use.
    """

    code = "E-CONNECTION"
    exit_code = 51

    def __init__(self, message: str, *, hint: str = "", sent: bool = False, lasting: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.sent = sent
        self.lasting = lasting


class TlsError(TransportError):
    """No encrypted connection: the server's certificate is refused, or ours, or there is no common version."""

    code = "E-TLS"
    exit_code = 52

    def __init__(self, message: str, *, hint: str = "", sent: bool = False, lasting: bool = True) -> None:
        super().__init__(message, hint=hint, sent=sent, lasting=lasting)


class SimulationError(MindflError):
    """A federated run cannot continue."""

    code = "E-SIMULATION"
    exit_code = 60


class ClientError(SimulationError):
    """One client failed. Carries the client's name and the iteration it happened in."""

    code = "E-CLIENT"
    exit_code = 61

    def __init__(self, client: str, iteration: int, cause: str, *, hint: str = "") -> None:
        super().__init__(f"client {client} failed in iteration {iteration}: {cause}", hint=hint)
        self.client = client
        self.iteration = iteration
        self._cause = cause

    def __reduce__(self) -> tuple[partial[ClientError], tuple[str, int, str]]:
        """Return how to make it again in another process."""
        return partial(type(self), hint=self.hint), (self.client, self.iteration, self._cause)


class NotAggregatedError(SimulationError):
    """Clients trained and uploaded, but no iteration aggregated anything: there is no trained model."""

    code = "E-NOT-AGGREGATED"
    exit_code = 62


class AlgorithmError(MindflError):
    """A federated algorithm failed, or returned what cannot be used. Carries its description and the iteration.

    ``iteration`` is 0 before the first one.
    """

    code = "E-ALGORITHM"
    exit_code = 63

    def __init__(self, algorithm: str, iteration: int, cause: str, *, hint: str = "") -> None:
        when = f"in iteration {iteration}" if iteration else "before the first iteration"
        super().__init__(f"algorithm {algorithm} failed {when}: {cause}", hint=hint)
        self.algorithm = algorithm
        self.iteration = iteration
        self._cause = cause

    def __reduce__(self) -> tuple[partial[AlgorithmError], tuple[str, int, str]]:
        """Return how to make it again in another process."""
        return partial(type(self), hint=self.hint), (self.algorithm, self.iteration, self._cause)
