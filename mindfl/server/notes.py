"""Options of a server that have no effect with its other options or its settings: named instead of being ignored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from mindfl.effects import Rule, without_effect
from mindfl.server.options import ServerOptions
from mindfl.server.settings import JobSettings


def unused_options(options: ServerOptions, settings: JobSettings) -> Iterator[str]:
    """Yield a line for each option that was chosen but has no effect."""
    defaults = {item.name: item.default for item in fields(ServerOptions)}
    rules = _RULES if settings.enable_ssl else (*_RULES, _WITHOUT_TLS)
    yield from without_effect(rules, options, lambda name: getattr(options, name) != defaults[name])
    yield from unused_password(options.password, settings)


def unused_password(password: str | None, settings: JobSettings) -> Iterator[str]:
    """Yield a line where there is a password, but no key that it could belong to; it does not tell the password."""
    if password is not None and not settings.enable_ssl:
        yield f"the password has no effect on this server: {_NO_TLS}"


_NO_TLS = "enable_ssl is false, so nothing is encrypted"
_WITHOUT_TLS: Rule[ServerOptions] = Rule(
    ("server_key_path", "require_client_certificate"), lambda options: True, "this server", _NO_TLS
)
_RULES: tuple[Rule[ServerOptions], ...] = (
    Rule(
        ("tcp_server_ip",),
        lambda options: not options.cluster,
        "one server",
        "it is where the servers of a --cluster find each other",
    ),
    Rule(
        ("state_dir", "journal"),
        lambda options: options.cluster,
        "the servers of a cluster",
        "they keep the job in the Redis",
    ),
    Rule(
        ("state_dir",),
        lambda options: not options.journal and not options.cluster,
        "--no-journal",
        "nothing is kept in a folder",
    ),
)
