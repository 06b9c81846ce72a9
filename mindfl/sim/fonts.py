"""Fonts of figures: letters that matplotlib's own font lacks, such as Chinese, come from other installed fonts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from mindfl.notices import warn

#: fonts with the letters of East Asia, in the order in which they are used
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC"),
    *("Droid Sans Fallback", "Noto Serif CJK SC", "AR PL UMing CN", "Arial Unicode MS", "Unifont"),
)
#: in the names of their files
_OF_EAST_ASIA = re.compile("cjk|notosanssc|sourcehan|wqy|msyh|simhei|pingfang|hiragino|droidsansfallback|uming|unifont")


def fit_fonts(artist: Any) -> None:
    """Give those texts of a figure, or of axes, that are not ASCII further fonts; warn of letters that none has."""
    from matplotlib.text import Text

    missing: set[str] = set()
    for text in artist.findobj(Text):
        if not (words := text.get_text()).isascii():
            families = [*text.get_fontfamily(), *_installed()]
            text.set_fontfamily(families)
            missing |= {letter for letter in words if letter.isprintable() and not letter.isascii()}
            for family in families:
                missing = {letter for letter in missing if not _has(family, letter)}
    if missing:
        _warn("".join(sorted(missing)))


@cache
def _installed() -> tuple[str, ...]:
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {font.name for font in fontManager.ttflist}
    if known.isdisjoint(FALLBACKS):  # matplotlib keeps its list of fonts: one may have been installed since
        for path in findSystemFonts():
            if _OF_EAST_ASIA.search(Path(path).name.lower()):
                fontManager.addfont(path)
    names = {font.name for font in fontManager.ttflist}
    return tuple(name for name in FALLBACKS if name in names)


@cache
def _has(family: str, letter: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return bool(get_font(findfont(FontProperties(family=[family]))).get_char_index(ord(letter)))


@cache
def _warn(letters: str) -> None:
    warn(f"no installed font has {letters}: figures show boxes instead; install a font such as Noto Sans CJK")
