"""One declaration per option: its type, default, range, help and spellings; see :mod:`mindfl.options.declaration`."""

from mindfl.options.declaration import Option, check_options, declared_arguments, option, options_of

__all__ = ["Option", "check_options", "declared_arguments", "option", "options_of"]
