"""Pen paths of the 62 characters, drawn for this project.

A character has one or more forms; a form is a path in a small language: ``M x y`` lifts the pen and starts a stroke,
``L x y`` draws a line, ``Q cx cy x y`` a quadratic curve, ``E cx cy rx ry a b`` an arc of an ellipse from angle a to b
in degrees (clockwise from the right), joined to a stroke that has begun. x goes right; y goes down from 0 (capitals'
top) over 4 (small letters' top) to 10 (base line) and 14 (descenders).
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.data.samples import ALPHABET

#: Straight pieces per form.
SEGMENTS = 96
_CURVE_STEPS = 12

Point = tuple[float, float]

FORMS: dict[str, tuple[str, ...]] = {
    "0": ("E 3 5 2.8 5 -90 270", "E 3 5 2.5 5 -60 310", "E 3 5 3 5 -90 270 M 5.4 .6 L .6 9.4"),
    "1": (
        "M 3 0 L 3 10",
        "M 3 0 L 2.8 10",
        "M 1.4 2 L 3.2 0 L 3.2 10",
        "M 1.4 2 L 3.2 0 L 3.2 10 M 1 10 L 5.4 10",
    ),
    "2": (
        "M .3 2.4 Q .6 0 3 0 Q 5.8 0 5.6 2.8 Q 5.4 5 0 10 L 6 10",
        "M .3 2.2 Q 1 0 3.2 0 Q 5.8 .2 5.4 3 Q 4.8 6 1.6 9.4 Q .2 10.4 .2 9.2 Q .6 8 2.4 9.2 Q 4.4 10.6 6.4 9.4",
        "M .4 1 Q 5.8 -1.4 5.2 2.8 Q 4.4 6 .2 9.8 Q 3 9.4 5.8 10",
    ),
    "3": (
        "M .4 1.4 Q 1.2 0 3 0 Q 5.6 0 5.4 2.4 Q 5.2 4.6 2.2 4.7 Q 6 4.8 5.9 7.4 Q 5.6 10 2.8 10 Q .8 10 0 8.4",
        "M .3 0 L 5.4 0 L 2.4 4 Q 6 4 5.9 7 Q 5.6 10 2.8 10 Q .8 10 0 8.6",
    ),
    "4": ("M 1.2 0 L .2 5.6 L 6 5.6 M 4.6 .4 L 4.2 10", "M 4.4 10 L 4.4 0 L 0 6.6 L 6.2 6.6"),
    "5": (
        "M 5.6 0 L 1.2 0 L .8 4.4 Q 5.8 3.2 5.8 6.8 Q 5.6 10 2.6 10 Q .8 10 0 8.8",
        "M 1.2 0 L .8 4.6 Q 5.6 3.4 5.6 6.8 Q 5.4 10 2.4 10 Q .8 10 0 8.8 M 1.2 .2 L 6 -.2",
        "M 5.4 .4 Q 1.2 -.6 1 2.4 Q 1 4.2 3 4.4 Q 5.8 4.8 5.6 7.4 Q 5.2 10 2.4 10 Q .8 10 .2 9",
    ),
    "6": (
        "M 4.8 0 Q .2 2.4 .2 7 Q .4 10 3 10 Q 5.6 9.8 5.6 7.4 Q 5.2 5 3 5 Q .8 5.2 .4 7.4",
        "M 2.8 0 Q .2 4 .4 7.6 Q .8 10 3 10 Q 5.2 9.6 5 7.4 Q 4.4 5.6 2.6 5.8 Q 1 6.2 .6 8",
    ),
    "7": (
        "M .2 0 L 5.8 0 L 2.2 10",
        "M .2 .2 L 5.8 0 Q 3.4 5 2.8 10 M 1.6 5 L 5.2 4.8",
        "M .2 1.4 L .4 0 L 5.8 0 L 2.2 10",
    ),
    "8": (
        "M 5.2 1.4 Q 4 -.4 2.4 .2 Q .4 1.2 1.2 3 Q 1.8 4.2 3.6 5.2 Q 6 6.6 5.4 8.4 Q 4.8 10 2.8 10 "
        "Q .4 9.8 .4 7.8 Q .6 6 3 4.8 Q 5.4 3.4 5.2 1.4",
        "E 3 2.4 2.2 2.4 90 450 E 3 7.4 2.8 2.6 -90 270",
    ),
    "9": (
        "E 2.8 2.8 2.6 2.8 0 360 L 4.8 10",
        "M 5.4 2.4 Q 5 0 2.8 0 Q .2 .2 .2 3 Q .6 5.4 3 5.2 Q 5 4.8 5.4 2.4 Q 5.8 6.6 4.6 8.6 Q 3.4 10.2 1 9.6",
    ),
    "A": (
        "M 0 10 L 3.2 0 L 6.4 10 M 1.2 6.4 L 5.2 6.4",
        "M 0 10 Q .4 0 3.2 0 Q 6 0 6 10 M .4 5.8 L 6 5.8",
        "M 0 10 L 3 0 L 6 10 L 1.2 6 L 5 5.6",
    ),
    "B": (
        "M .4 0 L .4 10 M .4 0 Q 5.4 -.2 5.2 2.4 Q 5 4.6 .4 4.8 Q 6.2 4.8 6 7.4 Q 5.6 10.2 .4 10",
        "M .6 10 L .8 0 Q 5 -.6 5 2.2 Q 4.8 4.4 1.8 4.8 Q 6 5 5.6 7.8 Q 5 10.2 0 9.6",
    ),
    "C": ("M 5.8 2 Q 5 0 3.2 0 Q 0 .2 0 5 Q .2 10 3.4 10 Q 5.2 10 6 8.2", "E 3.4 5 3.2 5 -50 -310"),
    "D": (
        "M .4 0 L .4 10 Q 6.4 10 6.2 4.8 Q 5.8 -.2 .4 0",
        "M .8 .4 L .6 9.6 M -.4 .2 Q 6.4 -.6 6.4 4.8 Q 6 10.4 -.4 9.8",
    ),
    "E": (
        "M 5.4 0 L .4 0 L .4 10 L 5.6 10 M .4 4.8 L 4.6 4.8",
        "M 5.2 1.2 Q 3.6 -.6 1.6 .4 Q -.2 2 1 4 Q 1.8 4.8 3.4 4.8 Q .2 4.8 .2 7.4 Q .6 10.2 3.2 10 Q 4.8 9.8 5.6 8.4",
    ),
    "F": ("M .4 10 L .4 0 L 5.6 0 M .4 4.8 L 4.4 4.8", "M 1 0 L .8 10 M 0 .2 L 5.8 -.2 M .8 4.8 L 4.6 4.6"),
    "G": (
        "M 5.8 1.8 Q 4.8 0 3 0 Q 0 .4 0 5 Q .2 10 3.2 10 Q 5.8 9.8 5.8 5.8 L 3.2 5.8",
        "M 5.6 1.4 Q 3.4 -1 1.2 1.4 Q -.6 5 1 8.6 Q 3 11 5.2 8.4 L 5.4 5.8 M 3.2 6 L 7 5.8",
        "M 5.4 1.6 Q 4 -.4 2 .6 Q 0 2 0 5.4 Q .4 10.2 3.2 10 Q 5.4 9.4 5.6 6.2 L 3.4 6.4 L 3.2 7.4",
    ),
    "H": ("M .2 0 L .2 10 M 5.8 0 L 5.8 10 M .2 5 L 5.8 5", "M .4 0 L 0 10 M 5.2 0 L 4.8 10 M .2 5.4 L 5 4.6"),
    "I": ("M 3 0 L 3 10", "M 3 0 L 3 10 M .8 0 L 5.2 0 M .8 10 L 5.2 10"),
    "J": (
        "M 4.4 0 L 4.4 7 Q 4.2 10 2.2 10 Q .2 10 0 7.4",
        "M 4.4 0 L 4.4 7 Q 4.2 10 2.2 10 Q .2 10 0 7.4 M 1.8 0 L 7 0",
    ),
    "K": (
        "M .2 0 L .2 10 M 5.4 0 L .2 5.8 M 1.8 4.6 L 5.6 10",
        "M .4 0 L .2 10 M 5.4 .6 Q 3 4.4 .4 5 Q 3 5.4 6 10",
    ),
    "L": ("M .2 0 L .2 10 L 5.2 10", "M .8 0 Q .8 7 .2 10 Q 3 9.6 5.4 10"),
    "M": (
        "M 0 10 L .6 0 L 3.6 6.4 L 6.6 0 L 7.2 10",
        "M 0 10 L .4 0 Q 2.6 -.4 3.2 2.4 L 3.4 9 M 3.3 3 Q 4 -.4 5.8 0 Q 7 .4 7 10",
        "M 0 10 L 0 0 L 3.4 9 L 6.8 0 L 6.8 10",
    ),
    "N": ("M 0 10 L 0 0 L 5.6 10 L 5.6 0", "M 0 10 L .6 0 L 5 10 L 5.8 0", "M 0 10 L .4 0 Q 5 -2 5.4 5 L 5.6 10"),
    "O": ("E 3.3 5 3.3 5 -90 270", "E 3.2 5 3 4.9 -60 320"),
    "P": (
        "M .4 10 L .4 0 Q 5.8 -.4 5.6 2.8 Q 5.2 5.6 .4 5.4",
        "M .8 0 L .6 10 M -.4 .8 Q 1.8 -.6 4 0 Q 6.2 1.4 5 4 Q 3.6 5.8 .8 5.6",
    ),
    "Q": (
        "E 3.2 4.8 3.2 4.8 -90 270 M 3.6 7 L 6.6 10.4",
        "E 3.2 4.8 3.2 4.8 -60 300 M 4 7.4 Q 5 10.4 6.8 9.8",
    ),
    "R": (
        "M .4 10 L .4 0 Q 5.6 -.4 5.4 2.6 Q 5 5.2 .4 5.2 M 2 5.2 L 5.8 10",
        "M .6 0 L .4 10 M -.4 .6 Q 2 -.6 4 0 Q 6 1.2 4.8 3.6 Q 3.4 5.2 1 5.2 Q 3.6 6 6 10",
    ),
    "S": (
        "M 5.4 1.4 Q 4.4 0 2.8 0 Q .4 .2 .4 2.6 Q .8 4.4 3 5 Q 5.8 5.8 5.6 7.6 Q 5 10 2.6 10 Q .6 10 0 8.4",
        "M 5 .8 Q .6 -1 .6 2.2 Q 1 4 3 5 Q 5.6 6.4 5 8.2 Q 3.6 10.8 .2 9.2",
    ),
    "T": ("M 0 0 L 6.4 0 M 3.2 0 L 3.2 10", "M 0 .4 L 6.4 -.2 M 3.4 0 Q 3 6 3.2 10"),
    "U": (
        "M 0 0 L 0 6.6 Q .2 10 3 10 Q 5.8 10 5.8 6.6 L 5.8 0",
        "M 0 0 Q -.2 10 2.8 10 Q 5.4 9.6 5.6 0 L 5.8 10",
    ),
    "V": ("M 0 0 L 3 10 L 6 0", "M 0 0 Q 1.6 5 2.8 10 Q 4 4 6.4 .2"),
    "W": (
        "M 0 0 L 1.8 10 L 3.8 2 L 5.6 10 L 7.6 0",
        "M 0 0 Q 0 10 2 10 Q 3.8 9.6 3.8 3 Q 3.8 10 5.8 10 Q 7.6 9 7.6 0",
    ),
    "X": ("M 0 0 L 5.8 10 M 5.8 0 L 0 10", "M .2 .4 Q 3 4 5.4 10 M 5.8 0 Q 2 5 0 9.8"),
    "Y": (
        "M 0 0 L 3 5 L 6 0 M 3 5 L 3 10",
        "M 0 0 L 2.8 5 M 6 0 L 1.6 10",
        "M 0 0 Q .6 5 3 4.8 Q 5.4 4.4 5.8 0 L 4.4 10",
    ),
    "Z": ("M 0 0 L 5.6 0 L 0 10 L 6 10", "M 0 0 L 5.6 0 L 0 10 L 6 10 M 1 5 L 4.8 5"),
    "a": (
        "M 4.6 5 Q 3.6 4 2.4 4.2 Q .2 4.6 .2 7.4 Q .4 10 2.4 10 Q 4.4 9.6 4.6 5 L 4.6 8.8 Q 4.8 10 6 9.6",
        "M .8 5 Q 2 4 3.2 4 Q 4.6 4.2 4.6 6 L 4.6 10 M 4.6 7 Q 1 6.4 .4 8.4 Q .6 10.2 2.4 10 Q 4.2 9.6 4.6 8",
        "M 4.4 4.8 Q 1.8 3.4 .6 6 Q -.4 9.6 2 10 Q 4 9.6 4.4 4.6 L 4.6 10",
    ),
    "b": (
        "M .4 0 L .4 10 M .4 6.8 Q 1.4 4.2 3.2 4.4 Q 5.2 4.8 5 7.4 Q 4.6 10 2.6 10 Q .8 9.8 .4 8",
        "M .8 0 L .4 8 Q 1 10 3 10 Q 5 9.4 4.8 7 Q 4.4 5.2 2.6 5.4 Q 1 5.8 .6 7.6",
    ),
    "c": (
        "M 4.6 5.2 Q 3.8 4 2.6 4 Q .2 4.2 .2 7 Q .4 10 2.8 10 Q 4.2 10 4.8 8.8",
        "M 3.8 4.8 Q 1.6 3.4 .6 6 Q -.2 9.6 2 10 Q 3.8 10 4.4 9.2",
    ),
    "d": (
        "M 4.6 6 Q 3.8 4.4 2.4 4.4 Q .2 4.8 .2 7.4 Q .4 10 2.4 10 Q 4.2 9.6 4.6 7.6 M 4.6 0 L 4.6 10",
        "M 4.4 6.4 Q 3 4.4 1.6 5 Q -.2 6.4 .4 8.8 Q 1.6 11 3.6 9 Q 4.6 7 4.8 0 L 4.8 9 Q 5.2 10.4 6.2 9.6",
    ),
    "e": (
        "M .4 7 L 4.6 6.6 Q 4.6 4.2 2.6 4 Q .4 4.2 .2 7 Q .4 10 2.8 10 Q 4.2 10 5 8.6",
        "M .2 7.6 Q 4.6 6.6 4.4 5 Q 3.4 3.4 1.6 4.6 Q -.2 6.6 .6 8.8 Q 2.4 11 5.2 8.6",
    ),
    "f": (
        "M 4.6 1 Q 3.6 -.4 2.4 .4 Q 1.6 1.2 1.6 3.4 L 1.6 10 M 0 4.6 L 4 4.6",
        "M .4 8 Q 4.8 3.4 4.2 .6 Q 3 -1 2.2 2.4 L 2 12.4 Q 2.4 14.2 3.4 12 Q 3.6 9.6 2.2 8.6 L 4.6 7.6",
    ),
    "g": (
        "M 4.6 5.4 Q 3.8 4 2.4 4.2 Q .2 4.6 .2 7 Q .6 9.4 2.4 9.2 Q 4.2 8.8 4.6 5.4 L 4.6 11.4 Q 4.4 14 2.4 14 "
        "Q .8 13.8 .4 12.6",
        "E 2.4 6.6 2.2 2.4 0 360 L 4.4 13.6",
        "M 4.4 5 Q 2.6 3.4 1 5 Q -.4 7.4 1.2 9 Q 3.4 9.8 4.6 5 L 4.4 11 Q 3.6 14.6 1.6 13.6 Q .4 12.4 2.4 11 "
        "Q 4.4 9.8 6 8.8",
    ),
    "h": (
        "M .4 0 L .4 10 M .4 6.6 Q 1.4 4.2 3 4.2 Q 4.8 4.4 4.8 7 L 4.8 10",
        "M .6 0 L .2 10 Q 1 4.6 3 4.6 Q 4.4 5 4.2 8.6 Q 4.6 10.4 5.8 9.4",
    ),
    "i": (
        "M 1 4.2 L 1 10 M 1 1.8 L 1 2.4",
        "M 1 4.2 L 1 9 Q 1.4 10.2 2.6 9.4 M 1.2 1.6 L 1.4 2.2",
        "M 1.2 4 L .8 10",
    ),
    "j": (
        "M 2.4 4.2 L 2.4 11.4 Q 2.2 14 .8 14 Q -.2 13.8 -.4 12.6 M 2.4 1.6 L 2.4 2.2",
        "M 2.6 4.2 L 1.8 12 Q 1.2 14.4 -.8 13.4 M 2.9 1.4 L 3 2",
    ),
    "k": (
        "M .4 0 L .4 10 M 4.4 4.4 L .4 7.4 M 1.6 6.6 L 4.8 10",
        "M .4 0 L .4 10 M 4.2 4.4 Q 2 7 .4 7.2 Q 3 7.2 4.8 10",
    ),
    "l": (
        "M 1 0 L 1 10",
        "M 1 0 L 1 8.8 Q 1.2 10 2.6 9.6",
        "M .4 9 Q 3.4 4 2.8 1 Q 2 -.8 1.2 2 L 1.2 8.6 Q 1.6 10.4 3.2 9.4",
    ),
    "m": (
        "M .2 4.2 L .2 10 M .2 6.4 Q 1 4.2 2.2 4.2 Q 3.4 4.4 3.4 6.4 L 3.4 10 M 3.4 6.4 Q 4.2 4.2 5.4 4.2 "
        "Q 6.8 4.4 6.8 6.8 L 6.8 10",
        "M 0 4.6 Q .8 4.6 .6 10 Q 1 4.4 2.4 4.4 Q 3.6 4.8 3.4 10 Q 4 4.4 5.4 4.4 Q 6.8 4.8 6.4 9 Q 7 10.4 7.8 9.4",
    ),
    "n": (
        "M .2 4.2 L .2 10 M .2 6.6 Q 1.2 4.2 2.8 4.2 Q 4.6 4.4 4.6 7 L 4.6 10",
        "M 0 4.4 Q .8 4.4 .6 10 Q 1 4.4 3 4.2 Q 4.6 4.6 4.2 9 Q 4.6 10.4 5.6 9.4",
    ),
    "o": ("E 2.4 7 2.4 3 -90 270", "M 2.6 4.2 Q .2 4 .2 7.2 Q .4 10 2.4 10 Q 4.8 9.8 4.6 6.8 Q 4.2 4 2 4.6"),
    "p": (
        "M .4 4.4 L .4 14 M .4 6.6 Q 1.4 4.2 3 4.2 Q 5 4.6 4.8 7.2 Q 4.4 9.8 2.4 9.8 Q .8 9.6 .4 8",
        "M .8 4.2 L .2 14 M -.4 5.4 Q 2 3.4 4 4.4 Q 5.6 6 4.4 8.4 Q 2.8 10 .6 9.2",
    ),
    "q": (
        "M 4.6 5.4 Q 3.8 4 2.4 4.2 Q .2 4.6 .2 7.2 Q .6 9.8 2.4 9.6 Q 4.2 9.2 4.6 6 M 4.6 4.4 L 4.6 14",
        "M 4.6 5 Q 2.6 3.4 1 5 Q -.4 7.6 1.2 9.4 Q 3.6 10 4.6 5 L 4.6 13.4 Q 5 14.2 6.4 12.4",
    ),
    "r": ("M .4 4.2 L .4 10 M .4 6.8 Q 1.2 4.4 3.6 4.4", "M .2 4.4 L .8 9.8 Q .8 5.2 2.6 4.4 Q 3.4 4.2 4 5"),
    "s": (
        "M 4 5 Q 3.2 4 2 4 Q .4 4.2 .4 5.6 Q .8 6.8 2.2 7 Q 4.2 7.6 4.2 8.6 Q 3.8 10 2 10 Q .6 10 0 9",
        "M 0 9.2 Q 2.4 7 3 4.2 Q 4 6.6 4.2 8.6 Q 3.6 10.4 1.2 9.6",
    ),
    "t": (
        "M 2 .6 L 2 8.4 Q 2.2 10 4 9.6 M 0 4 L 4.2 4",
        "M 2 1.4 L 2 10 M 0 4.2 L 4.2 4.2",
    ),
    "u": (
        "M .2 4.2 L .2 7.6 Q .4 10 2.2 10 Q 4.2 9.8 4.4 7.4 M 4.4 4.2 L 4.4 10",
        "M 0 4.2 Q -.2 10 2.2 10 Q 4.6 9.8 4.4 4.2",
    ),
    "v": ("M 0 4.2 L 2.2 10 L 4.4 4.2", "M 0 4.4 Q .8 4.4 2.2 10 Q 3 5.4 4.8 4.2"),
    "w": (
        "M 0 4.2 L 1.4 10 L 3 5.2 L 4.6 10 L 6.2 4.2",
        "M 0 4.2 Q 0 10 1.6 10 Q 3.2 9.6 3.2 5.4 Q 3.2 10 4.8 10 Q 6.4 9.4 6.4 4.2",
    ),
    "x": ("M 0 4.2 L 4.4 10 M 4.4 4.2 L 0 10", "M 0 4.6 Q 1.6 3.8 2.2 7 Q 2.8 10.4 4.6 9.4 M 4.6 4.2 L 0 10"),
    "y": (
        "M 0 4.2 L 2.4 9 M 4.8 4.2 L 1 14",
        "M .2 4.2 L .2 6.6 Q .6 9 2.4 8.8 Q 4.2 8.4 4.4 4.2 L 4.4 11.4 Q 4 14 2.2 14 Q .8 13.8 .4 12.6",
    ),
    "z": ("M .2 4.2 L 4.4 4.2 L 0 10 L 4.6 10", "M .2 4.4 L 4.4 4.2 L .2 10 L 4.8 9.8 M .8 7 L 3.8 7"),
}


class Templates(NamedTuple):
    """All forms as polylines: ``first[c]`` is the first form of class c and ``forms[c]`` their number.

    ``x`` and ``y`` are float32 (forms, SEGMENTS + 1) vertices; ``pen`` is float32 (forms, SEGMENTS), 0 where the pen
    is lifted and 1 elsewhere.
    """

    first: NDArray[np.intp]
    forms: NDArray[np.intp]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    pen: NDArray[np.float32]


@cache
def templates() -> Templates:
    """Return the table of all forms."""
    count = np.array([len(FORMS[letter]) for letter in ALPHABET])
    traced = [_resample(_strokes(path)) for letter in ALPHABET for path in FORMS[letter]]
    x, y, pen = (np.array(values, np.float32) for values in zip(*traced, strict=True))
    return Templates(np.cumsum(count) - count, count, x, y, pen)


def _strokes(path: str) -> list[list[Point]]:
    strokes: list[list[Point]] = [[]]
    words = iter(path.split())
    for command in words:
        numbers = [float(next(words)) for _ in range({"M": 2, "L": 2, "Q": 4, "E": 6}[command])]
        if command == "M":
            strokes.append([(numbers[0], numbers[1])])
        elif command == "L":
            strokes[-1].append((numbers[0], numbers[1]))
        elif command == "Q":
            strokes[-1] += _curve(strokes[-1][-1], *numbers)
        else:
            strokes[-1] += _arc(*numbers)
    return [stroke for stroke in strokes if stroke]


def _curve(start: Point, control_x: float, control_y: float, end_x: float, end_y: float) -> list[Point]:
    steps = [step / _CURVE_STEPS for step in range(1, _CURVE_STEPS + 1)]
    return [
        (
            (1 - t) ** 2 * start[0] + 2 * t * (1 - t) * control_x + t * t * end_x,
            (1 - t) ** 2 * start[1] + 2 * t * (1 - t) * control_y + t * t * end_y,
        )
        for t in steps
    ]


def _arc(x: float, y: float, radius_x: float, radius_y: float, start: float, end: float) -> list[Point]:
    steps = 4 * _CURVE_STEPS
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(x + radius_x * math.cos(angle), y + radius_y * math.sin(angle)) for angle in angles]


def _resample(strokes: list[list[Point]]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Spread SEGMENTS pieces evenly over the strokes; the pieces that join two strokes are marked as pen up."""
    lengths = [sum(math.dist(a, b) for a, b in pairwise(stroke)) for stroke in strokes]
    free = SEGMENTS - (len(strokes) - 1) - len(strokes)
    pieces = [1 + int(free * length / sum(lengths)) for length in lengths]
    pieces[lengths.index(max(lengths))] += SEGMENTS - (len(strokes) - 1) - sum(pieces)
    vertices, pen = [], []
    for stroke, count in zip(strokes, pieces, strict=True):
        points = np.array(stroke)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        at = np.linspace(0.0, along[-1], count + 1)
        vertices.append(np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)]))
        pen += [1.0] * count + [0.0]
    x, y = np.concatenate(vertices, axis=1)
    return x, y, np.array(pen[:-1])
