"""Writes real labelled texts for ``mindfl data text``: descriptions of Debian's packages, a line each, four sections.

    python package_texts.py packages
    mindfl data text --input packages --output tokens --lower_case --length 16

The texts are those that ``apt-cache dumpavail`` prints on the machine, drawn by a seed and dealt out to users.
"""

from __future__ import annotations

import argparse
import random
import subprocess
from pathlib import Path

SECTIONS = ("games", "libdevel", "science", "python")


def descriptions(listing: str) -> dict[str, list[str]]:
    """Return the short descriptions of each section in what ``apt-cache dumpavail`` prints, sorted, each once."""
    found: dict[str, set[str]] = {section: set() for section in SECTIONS}
    for paragraph in listing.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        section = fields.get("Section", "").split("/")[-1]
        text = fields.get("Description", fields.get("Description-en", "")).strip()
        if section in found and text and "<<<" not in text:
            found[section].add(text)
    return {section: sorted(texts) for section, texts in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write, a file for each user")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--texts", type=int, default=1000, help="most texts of a section")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    listing = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    drawn, lines = random.Random(arguments.seed), []
    for section, texts in descriptions(listing).items():
        lines += [f"<<<{section}>>>{text}\n" for text in drawn.sample(texts, min(arguments.texts, len(texts)))]
    drawn.shuffle(lines)
    arguments.folder.mkdir(parents=True)
    for user in range(arguments.users):
        (arguments.folder / f"user{user}.txt").write_text("".join(lines[user :: arguments.users]), "utf-8")


if __name__ == "__main__":
    main()
