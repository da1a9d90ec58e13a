"""earmark: tells whether a recording of speech is bona fide or spoofed, and which system made the spoof."""


class InputError(ValueError):
    """What the user can mend: names the culprit and what to do. The command line prints it as one line, without traceback."""
