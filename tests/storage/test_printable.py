import json
import logging

import pytest

from earmark.storage.printable import PrintableFormatter, legible, printable, printable_lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("café [x] 日本", "café [x] 日本"),
        ("a\x1b[2Jb\x07\r", r"a\x1b[2Jb\x07\r"),
        ("a\x85b\u2028c\x9b1m\u202e", r"a\x85b\u2028c\x9b1m\u202e"),
        ("caf\udce9", r"caf\xe9"),
        ("half \ud83d", r"half \ud83d"),
        ("\udce9\ud800", r"\udce9\ud800"),
    ],
)
def test_text_is_printed_and_nothing_obeys_it(text, said):
    assert printable(text) == said
    json.dumps(printable(text)).encode("ascii")
    assert printable(said) == said


def test_lines_of_a_message_stay():
    assert printable_lines("error: 2 faults\n  a\x1b.wav\n") == "error: 2 faults\n  a\\x1b.wav\n"


def test_two_names_are_never_alike():
    names = ["caf\udce9.wav", r"caf\xe9.wav", r"caf\\xe9.wav", "caf\\\udce9.wav", "caf\n", r"caf\n", "café.wav"]
    assert len(set(map(legible, names))) == len(names)
    assert legible("a b/café.wav") == "a b/café.wav"


def test_logs_name_files_in_print():
    record = logging.LogRecord("x", logging.INFO, "", 1, "%s\tis left\nout", ("a\x1b[2J\udce9",), None)
    assert PrintableFormatter("%(levelname)s %(message)s").format(record) == "INFO a\\x1b[2J\\xe9\tis left\nout"
