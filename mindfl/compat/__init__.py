"""Interfaces of other packages, so that scripts written for them run with mindfl."""
