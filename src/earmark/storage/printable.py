"""Text that comes from files and their names, as it can be printed and put into JSON."""

import logging
import sys


def printable(text: str) -> str:
    """Text in which bytes that are no UTF-8, and control characters, stand as escapes: no terminal obeys it, no reader splits it."""
    decoded = text.encode("utf-8", "surrogateescape" if _of_names(text) else "backslashreplace").decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in decoded)


def printable_lines(text: str) -> str:
    """A message of several lines as `printable` text."""
    return "\n".join(map(printable, text.split("\n")))


def legible(name: str) -> str:
    """A file's name as `printable` text; its own backslashes are doubled, so that no two names are alike."""
    return printable(name.replace("\\", r"\\"))


class PrintableFormatter(logging.Formatter):
    """Of log records, whose messages name files."""

    def format(self, record: logging.LogRecord) -> str:
        """As usual, with no control characters but newlines and tabs."""
        return "\t".join(map(printable_lines, super().format(record).split("\t")))


def log_to_stderr(force: bool = False) -> None:
    """Print all log records from INFO on, in print; where something else takes them already, with `force` alone."""
    said = logging.StreamHandler(sys.stderr)
    said.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[said], force=force)


def _of_names(text: str) -> bool:
    """Whether its surrogates, if any, all stand for bytes of a name."""
    return all(not "\ud800" <= one <= "\udfff" or "\udc80" <= one <= "\udcff" for one in text)
