"""Which place the servers of a job meet in."""

from __future__ import annotations

import ipaddress
import logging
import ssl

from mindfl.errors import OptionError, StorageError
from mindfl.files import PathLike
from mindfl.server.cluster.folder_store import FolderStore, job_folder
from mindfl.server.cluster.store import JobStore
from mindfl.server.settings import JobSettings
from mindfl.server.settings.sections import EMBEDDED
from mindfl.server.storage import StoreDownError

_logger = logging.getLogger("mindfl.server")


def find_store(settings: JobSettings, path: PathLike | None = None) -> JobStore:
    """Return where the servers with these settings meet.

    The folder ``path``, if that is given, and :func:`job_folder` where the type is "embedded". Else the Redis at
    ``distributed_cache.address``, where the package redis is installed and one answers. Else, for an address of this
    machine, :func:`job_folder` too. Raises :class:`StorageError`.
    """
    address = settings.distributed_cache.address
    if path is not None:
        return FolderStore(path)
    folder = job_folder(address, settings.fl_name)
    if settings.distributed_cache.type == EMBEDDED:
        return FolderStore(folder)
    try:
        from mindfl.server.cluster.redis_store import RedisStore
    except ModuleNotFoundError:
        if not _is_local(address):
            _logger.warning("without the package redis, servers on other machines than this are other jobs")
        return FolderStore(folder)
    try:
        return RedisStore(settings)
    except StoreDownError as error:
        if not _is_local(address):
            raise StorageError(str(error), hint="start it, or correct distributed_cache.address") from None
        _logger.warning("no Redis answers at %s: the servers of this machine meet in %s", address, folder)
        return FolderStore(folder)


def keeper_tls(settings: JobSettings) -> ssl.SSLContext | None:
    """Return how a server on another machine is checked: its certificate must be for its address, and of the authority.

    None where the settings want no TLS. Raises :class:`OptionError`.
    """
    if not settings.enable_ssl:
        return None
    try:
        return ssl.create_default_context(cafile=settings.ssl.ca_cert_path)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"{settings.ssl.ca_cert_path} holds no certificate of an authority: {error}") from None


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
