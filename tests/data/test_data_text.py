"""Labelled texts as tokens: any text is cut as the device of the ALBERT demo does, and what cannot be used is named."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mindfl.cli.data import data_command
from mindfl.data import convert_text, fingerprint, inspect_dataset, open_dataset
from mindfl.data.labelled_lines import find_texts
from mindfl.data.text_dataset import TextReading, read_texts
from mindfl.data.tokenizer import Tokenizer, make_vocabulary, read_vocabulary, without_case, words
from mindfl.errors import DataError, MindflWarning, OptionError

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a", "a", "ab", "很", "好", ",", "!", "##b"]
NUMBERS = {piece: 7 * place % 31 for place, piece in enumerate(PIECES)}


def reference_words(text: str) -> list[str]:
    """Split letter by letter: ideographs and ASCII punctuation alone, the rest at white space."""
    inner = [place for place, letter in enumerate(text) if ord(letter) > 32]
    found, current = [], ""
    for letter in text[inner[0] : inner[-1] + 1] if inner else "":
        alone = 0x4E00 <= ord(letter) <= 0x9FA5 or letter in string.punctuation
        if alone or letter in " \t\n\v\f\r":
            found += [current] if current else []
            current = ""
            found += [letter] if alone else []
        else:
            current += letter
    return found + ([current] if current else [])


def reference_pieces(word: str) -> list[str]:
    if not word:
        return []

    def cut(rest: str, before: str) -> list[str] | None:
        for size in range(len(rest), 0, -1):
            if before + rest[:size] in NUMBERS:
                behind = cut(rest[size:], "##") if rest[size:] else []
                return None if behind is None else [before + rest[:size], *behind]
        return None

    return cut(word, "") or ["[UNK]"]


TEXTS = st.one_of(st.text(max_size=40), st.text("unabfle 很好,!\t", max_size=40))


@given(text=TEXTS)
def test_words_are_split_at_space_punctuation_and_ideographs(text: str) -> None:
    inner = text.strip("".join(map(chr, range(33))))
    expected = reference_words(text)
    assert words(text) == expected and (bool(expected) or not inner)


@given(text=TEXTS, length=st.integers(3, 12), start=st.integers(0, 50))
def test_any_text_has_features_of_the_documented_form(text: str, length: int, start: int) -> None:
    tokenizer = Tokenizer(NUMBERS)
    expected = [NUMBERS[piece] for word in reference_words(text) for piece in reference_pieces(word)]
    pieces = tokenizer.pieces(text)
    assert pieces == expected
    sample = tokenizer.features(pieces, length, start % max(len(pieces), 1))
    assert sample.shape == (3, length) and sample.dtype == np.int32
    used = min(len(pieces), length - 2)
    taken = (expected * 2)[start % len(pieces) :] if len(pieces) > length - 2 else expected
    assert sample[0].tolist() == [
        NUMBERS["[CLS]"],
        *taken[:used],
        NUMBERS["[SEP]"],
        *[0] * (length - used - 2),
    ]
    assert sample[1].tolist() == [0] * length and sample[2].tolist() == [1] * (used + 2) + [0] * (length - used - 2)
    assert sample.min() >= 0 and sample.max() < tokenizer.size


def test_words_are_cut_into_the_longest_pieces() -> None:
    tokenizer = Tokenizer(NUMBERS)
    assert tokenizer.pieces("unaffable ab!") == [NUMBERS[each] for each in ("un", "##aff", "##able", "ab", "!")]
    assert tokenizer.pieces("unaffabl UN 好好") == [NUMBERS[each] for each in ("[UNK]", "[UNK]", "好", "好")]
    assert tokenizer.pieces("a" * 20_000) == [NUMBERS["a"]] + [NUMBERS["##a"]] * 19_999


def test_lower_case() -> None:
    assert without_case("ÉCOLE\x07 Stra\u0308ße\tÇa\u00ad") == "ecole straße ca"


@settings(max_examples=40)
@given(texts=st.lists(st.text(max_size=20), max_size=6), most=st.integers(16, 60))
def test_a_vocabulary_is_made_of_any_texts(texts: list[str], most: int) -> None:
    vocabulary = make_vocabulary(texts, most)
    assert list(vocabulary)[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert list(vocabulary.values()) == list(range(len(vocabulary))) and len(vocabulary) <= most
    assert vocabulary == make_vocabulary(texts, most)
    whole = make_vocabulary(texts, 10_000)
    tokenizer = Tokenizer(whole)
    assert all(tokenizer.pieces(text) == [whole[word] for word in words(text)] for text in texts)
    letters = {word[0] for text in texts for word in words(text)}
    assert all(letter in whole for letter in letters)


LINES = {
    "0": ["<<<good>>>so glad today", "<<<bad>>>so sad, so very sad that words will not do it today!", "<<<good>>>glad"],
    "10": ["<<<bad>>>sad", "", "<<<good>>>今天很好"] * 6,
    "2": ["<<<good>>>glad >>> sad"],
}


def write(folder: Path, lines: dict[str, list[str]], **others: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, texts in (lines | others).items():
        (folder / f"{name}.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return folder


def test_a_folder_becomes_a_data_set(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", LINES, eval=["<<<bad>>>so sad", "<<<good>>>glad"])
    report = convert_text(folder, tmp_path / "out", progress=False)
    data = open_dataset(tmp_path / "out")
    assert data.users == ("0", "2", "10") and data.class_names == ("bad", "good") and report.problems == ()
    assert (report.train_samples, report.test_samples, report.untested) == (2 + 1 + 10, 1 + 2, 1)
    vocabulary = read_vocabulary(tmp_path / "out" / "vocab.txt", tmp_path / "out" / "vocab_map_ids.txt")
    assert data.form.words() == f"3x8 tokens of a vocabulary of {len(vocabulary)}"
    assert data.central_test is not None and data.central_test.labels.tolist() == [0, 1]
    first = [vocabulary[piece] for piece in ("[CLS]", "so", "sad", "[SEP]")]
    assert data.central_test.images()[0].tolist() == [first + [0] * 4, [0] * 8, [1] * 4 + [0] * 4]
    assert inspect_dataset(tmp_path / "out").classes == {"bad": 7, "good": 9}
    named = convert_text(
        folder,
        tmp_path / "again",
        vocal_file=tmp_path / "out" / "vocab.txt",
        ids_file=tmp_path / "out" / "vocab_map_ids.txt",
        labels="bad,good",
        progress=False,
    )
    assert fingerprint(open_dataset(named.output)) == fingerprint(data)


def test_training_takes_pieces_from_a_drawn_one_on(tmp_path: Path) -> None:
    text = " ".join(string.ascii_lowercase[:20])
    folder = write(tmp_path / "in", {"ann": [f"<<<a>>>{text}"] * 40})

    def read(seed: int) -> tuple[Any, dict[str, int]]:
        data, vocabulary = read_texts(find_texts(folder), TextReading(test_share=0.25, seed=seed), None, [])
        return data.user("ann"), vocabulary

    user, vocabulary = read(3)
    letters = [vocabulary[letter] for letter in text.split()]
    starts = []
    for sample in user.train.images():
        starts.append(letters.index(sample[0, 1]))
        assert sample[0, 1:7].tolist() == (letters * 2)[starts[-1] : starts[-1] + 6]
    assert len(set(starts)) > 5
    assert (user.test.images()[:, 0, 1:7] == letters[:6]).all()
    assert np.array_equal(read(3)[0].train.images(), user.train.images())
    assert not np.array_equal(read(4)[0].train.images(), user.train.images())


def test_the_layout_of_the_demo(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", {}, vocab=PIECES, vocab_map_ids=[str(number) for number in NUMBERS.values()])
    write(folder / "client", {"0": ["<<<xin>>>unaffable", "<<<good>>>很好"], "1": ["<<<leimu>>>ab!"]})
    write(folder / "eval", {"eval": ["<<<xiaoku>>>a", "<<<xin>>>很"]})
    report = convert_text(
        folder, tmp_path / "out", labels=["good", "leimu", "xiaoku", "xin"], test_share=0, progress=False
    )
    data = open_dataset(tmp_path / "out")
    assert data.users == ("0", "1") and data.class_names == ("good", "leimu", "xiaoku", "xin") and not report.problems
    assert data.form.vocabulary == max(NUMBERS.values()) + 1
    assert data.user("0").train.labels.tolist() == [3, 0] and data.central_test is not None
    expected = [NUMBERS[piece] for piece in ("[CLS]", "un", "##aff", "##able", "[SEP]")]
    assert data.user("0").train.images()[0, 0].tolist() == [*expected, 0, 0, 0]


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "in",
        {
            **LINES,
            "3": ["no label", "<<<good>>>glad", "<<<>>>glad", "<<<good>>>", "<<<good glad"],
            "4": ["", "  "],
            "5": [],
        },
        eval=["<<<good>>>glad", "<<<other>>>x", "<<<more>>>x"],
    )
    (folder / "6.txt").write_bytes(b"<<<good>>>\xff\xfe")
    (folder / "7.txt").write_bytes(b"<<<good>>>glad\n\0\0")
    with pytest.warns(MindflWarning):
        report = convert_text(folder, tmp_path / "out", progress=False)
    assert [line.replace(f"{folder}/", "") for line in report.problems] == [
        "3.txt, line 1 is not <<<label>>>text, nor are 3 other lines",
        "6.txt, line 1: the byte 0xff is not UTF-8 text (store the file as UTF-8)",
        "7.txt, line 2: a zero byte, so this is no text file",
        "user 4 has no usable lines",
        "user 5 has no usable lines",
        "user 6 has no usable lines",
        "user 7 has no usable lines",
        "eval.txt, line 2: unknown label 'other', nor are 1 other line",
    ]
    assert open_dataset(tmp_path / "out").users == ("0", "2", "3", "10")


def test_spaces_around_a_label_are_none_of_it(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "in", {"ann": ["<<<good>>>glad", "<<<good >>>so glad", "<<<\tgood>>>sad", "<<< bad>>>sad"]}
    )
    write(folder, {"ben": ["<<<bad>>>sad", "<<<  >>>x"]})
    with pytest.warns(MindflWarning):
        report = convert_text(folder, tmp_path / "out", progress=False)
    assert open_dataset(tmp_path / "out").class_names == ("bad", "good")
    assert [line.rpartition("/")[2] for line in report.problems] == ["ben.txt, line 2 is not <<<label>>>text"]


FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, Any], type[Exception]]] = {
    "no texts in": (lambda folder: [path.unlink() for path in folder.glob("*.txt")], {}, DataError),
    "no user has usable texts": (lambda folder: None, {"labels": "x"}, DataError),
    "vocab.txt has 14 lines, but": (
        lambda folder: write(folder, {}, vocab=PIECES[1:], vocab_map_ids=["1"] * 15),
        {},
        DataError,
    ),
    "vocab_map_ids.txt, line 2: '-1' is no number": (
        lambda folder: write(folder, {}, vocab=PIECES[:2], vocab_map_ids=["1", "-1"]),
        {},
        DataError,
    ),
    "the vocabulary has no [UNK]": (lambda folder: write(folder, {}, vocab=["a"]), {}, DataError),
    "vocab.txt is empty": (lambda folder: write(folder, {}, vocab=[]), {}, DataError),
    "numbers a vocabulary, and there is none": (lambda folder: None, {"ids_file": "ids.txt"}, OptionError),
    "labels must be different texts": (lambda folder: None, {"labels": "a,a"}, OptionError),
    "length must be a whole number of at least 3": (lambda folder: None, {"length": 2}, OptionError),
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_cannot_be_used_is_refused(words: str, tmp_path: Path) -> None:
    change, options, error = FAULTS[words]
    folder = write(tmp_path / "in", LINES)
    change(folder)
    with pytest.raises(error) as caught:
        convert_text(folder, tmp_path / "out", progress=False, **options)
    assert words in str(caught.value) and not (tmp_path / "out").exists()


def test_many_lines_and_one_huge_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", {"many": ["<<<good>>>so glad today, so very glad"] * 5_000})
    write(folder, {"huge": ["<<<bad>>>" + "sad" * 100_000, "<<<bad>>>" + "so sad " * 50_000]})
    assert convert_text(folder, tmp_path / "out", progress=False).train_samples == 4_500 + 1


def test_the_command_tells_what_it_made(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", LINES)
    options = ["text", "--input", str(folder), "--output", str(tmp_path / "out"), "--length", "6", "--lower_case"]
    outcome = CliRunner().invoke(data_command, options)
    assert outcome.exit_code == 0, outcome.output
    assert "3 users, 13 train and 3 test samples of 2 classes" in outcome.output
    assert "samples of 3x6 tokens of a vocabulary of" in outcome.output and (tmp_path / "out-partition.png").exists()
