"""Reference voices of the embedded demo corpus: speech from espeak-ng that stands in for recordings."""

import ctypes
import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from earmark import InputError
from earmark.audio.decode import SAMPLE_RATE
from earmark.copies.copysynthesis import write
from earmark.storage.files import complete, refuse_filled

# espeak-ng's speak_lib.h
SYNCHRONOUS, CHARACTERS, UTF8 = 2, 1, 1
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

VOICES = {
    "train": ("en-us+f1", "en-us+m1", "en+f2", "en+m3", "en-gb-scotland+f3", "en-gb-scotland+m4", "en-029+f4",
              "en-029+m5", "en-gb-x-rp+linda", "en-gb-x-rp+edward", "en-us+Alicia", "en-us+Michael", "en-gb-x-gbclan+f5",
              "en-gb-x-gbclan+m7"),
    "dev": ("en-us+f2", "en+m8", "en-gb-x-rp+belinda", "en-gb-scotland+paul", "en-029+Andrea"),
    "eval": ("en-us+steph", "en+adam", "en-gb-x-rp+f1", "en-gb-scotland+max", "en-029+anika"),
}  # fmt: skip
SENTENCES = {
    "train": (
        "The ferry left the harbour ten minutes before the storm arrived.",
        "My neighbour keeps seven hens and one very loud goose.",
        "Please put the blue folder back on the second shelf.",
        "Nobody on the platform had noticed that the clock was wrong.",
        "We planted cherry trees along the road to the old mill.",
        "Her brother repairs violins in a shop behind the station.",
        "The soup needs a little more salt and a lot more time.",
        "After lunch the children measured the shadow of the tower.",
    ),
    "dev": (
        "A thin layer of ice covered the bucket in the yard.",
        "The librarian found the missing map inside a cookery book.",
        "Could you tell me which bus goes to the botanical garden?",
        "They painted the kitchen yellow because the light was poor.",
        "The last train of the evening was almost empty.",
        "He whistled the same short tune all the way home.",
        "Our tent stayed dry, but everything outside was soaked.",
        "The judge asked for a glass of water and a short break.",
    ),
    "eval": (
        "Three lanterns were hanging above the narrow bridge.",
        "The baker sells out of rye bread before nine o'clock.",
        "I would rather walk than wait another half an hour.",
        "An orange kite was caught in the tallest of the pines.",
        "The engineer drew the whole valve on a paper napkin.",
        "Every window of the house looked out over the river.",
        "She counted the steps twice and got two different answers.",
        "Fog rolled over the fields and swallowed the fences.",
    ),
}
COLUMNS = ("utterance_id", "path", "key", "speaker", "group", "split", "language", "stand_in")
README = """These are synthetic voices STANDING IN for recordings.

No person spoke here: espeak-ng, an open formant synthesiser, read the sentences. The embedded demo treats the clips as
bona fide so that it runs without any download; figures on them say that the pipeline works, and nothing about speech.
"""


def speak(output: Path) -> None:
    """Write 192 clips of 24 voices as 16 kHz FLAC with protocol.tsv and README.txt to `output`; the same bytes each time.

    Errors: InputError when espeak-ng is not installed or lacks a voice, or `output` holds anything.
    """
    refuse_filled(output)
    with complete(output) as aside:
        aside.mkdir(parents=True)
        # in a process of its own: the engine keeps state from clip to clip, and a second run must find it fresh
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(write_clips, aside).result()
        (aside / "README.txt").write_text(README)


def write_clips(root: Path) -> None:
    """Speak every sentence of a split by each of its voices; speed and pitch vary a little from clip to clip."""
    engine, rows = Engine(), ["\t".join(COLUMNS)]
    for split, voices in VOICES.items():
        for number, voice in enumerate(voices):
            speaker = voice.replace("+", "-").lower()
            engine.choose(voice)
            (root / "bonafide" / speaker).mkdir(parents=True)
            for place, sentence in enumerate(SENTENCES[split]):
                name, path = f"{speaker}-{split}{place}", f"bonafide/{speaker}/{split}{place}.flac"
                turn = number * 5 + place * 3  # walks through the ranges without a drawn number
                write(root / path, engine.say(sentence, 140 + turn % 7 * 5, 38 + number * 7 % 20 + turn % 5 * 2, 40 + turn % 4 * 10))
                rows.append("\t".join((name, path, "bonafide", speaker, f"{split}{place}", split, "en", "espeak-ng")))
    (root / "protocol.tsv").write_text("\n".join(rows) + "\n")


class Engine:
    """espeak-ng through ctypes. Errors: InputError when it is not installed or cannot start."""

    def __init__(self) -> None:
        try:
            loader: Any = importlib.import_module("espeakng_loader")
            self.library = ctypes.CDLL(str(loader.get_library_path()))
        except (ImportError, OSError) as error:
            raise InputError(f"the demo's voices need espeak-ng ({error}): pip install 'earmark[demo]'") from error
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, str(loader.get_data_path()).encode(), 0)
        if self.rate <= 0:
            raise InputError(f"espeak-ng cannot read its data in {loader.get_data_path()}: install espeakng-loader again")
        self.pieces: list[np.ndarray] = []
        self.callback = CALLBACK(self._collect)  # kept, or it would be freed while the engine calls it
        self.library.espeak_SetSynthCallback(self.callback)
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath and flutter are drawn; at the start the seed is the time

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def choose(self, voice: str) -> None:
        """Take a voice, written language+variant. Errors: InputError when there is none."""
        if self.library.espeak_SetVoiceByName(voice.encode()):
            raise InputError(f"espeak-ng has no voice {voice}: install espeakng-loader again")

    def say(self, text: str, words_per_minute: int, pitch: int, pitch_range: int) -> np.ndarray:
        """Speak a sentence: (T,) float32 at 16 kHz; `pitch` and `pitch_range` from 0 to 100; turned down, as loud voices clip."""
        for name, value in ((RATE, words_per_minute), (VOLUME, 30), (PITCH, pitch), (RANGE, pitch_range)):
            self.library.espeak_SetParameter(name, value, 0)
        self.pieces = []
        spoken = text.encode()
        wrong = self.library.espeak_Synth(spoken, len(spoken) + 1, 0, CHARACTERS, 0, UTF8, None, None)
        self.library.espeak_Synchronize()
        if wrong or not self.pieces:
            raise InputError(f"espeak-ng said nothing for {text!r}: install espeakng-loader again")
        sound = np.concatenate(self.pieces).astype(np.float32) / 32768
        return soxr.resample(sound, self.rate, SAMPLE_RATE)
