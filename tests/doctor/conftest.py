"""Corpora built for the doctor: a clean one, and the same with one of each fault."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

RATE = 16_000
COLUMNS = ("utterance_id", "path", "key", "source", "speaker", "group", "split")


def talk(seed: int, seconds: float = 1.6) -> np.ndarray:
    """(T,) float32: a voice of its own pitch and melody in syllables with sharp onsets and changing colour, over faint noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    melody = np.interp(time, np.linspace(0, seconds, 8), rng.uniform(0.8, 1.3, 8))
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 220) * melody) / RATE
    colours = [np.interp(time, np.linspace(0, seconds, 9), rng.uniform(0, 1, 9)) for _ in range(30)]
    voice = sum(colour * np.sin(order * phase) / order**0.7 for order, colour in enumerate(colours, start=1))
    onsets = np.sort(rng.uniform(0, seconds, round(5 * seconds)))
    syllables = 0.01 + sum(np.exp(-np.maximum(time - onset, 0) / 0.12) * (time >= onset) * rng.uniform(0.3, 1) for onset in onsets)
    sound = voice * syllables / np.abs(voice).max() + 0.003 * rng.standard_normal(len(time))
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


@dataclass
class Builder:
    """Writes a folder corpus; one utterance at a time, then `finish`."""

    root: Path
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(
        self, name: str, sound: np.ndarray | bytes, split: str, key: str = "bonafide", source: str = "-", speaker: str | None = None,
        group: str = "-", suffix: str = "flac", **form: str,
    ) -> None:  # fmt: skip
        path = self.root / f"{len(self.rows)}-{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(sound, bytes):
            path.write_bytes(sound)
        else:
            sf.write(path, np.round(32767 * sound).astype(np.int16), RATE, **form)
        self.rows.append((name, path.name, key, source, speaker or f"{split}-{len(self.rows) % 10}", group, split))

    def finish(self) -> Path:
        lines = ["\t".join(row) for row in (COLUMNS, *self.rows)]
        (self.root / "protocol.tsv").write_text("\n".join(lines) + "\n")
        return self.root


def fill(builder: Builder, spoil: Callable[[np.ndarray, str, str], np.ndarray] = lambda sound, split, key: sound) -> None:
    """Add 20 bona fide and 20 spoofed utterances to each split, alike in all but their label."""
    for split in ("train", "dev", "eval"):
        for number in range(20):
            for key, source in (("bonafide", "-"), ("spoof", f"engine{number % 4}")):
                seed = len(builder.rows)
                sound = spoil(talk(seed, 1.2 + 0.6 * np.random.default_rng(seed).random()), split, key)
                builder.add(f"{split}-{key}-{number}", sound, split, key, source)


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Path:
    """A corpus in which nothing is wrong."""
    builder = Builder(tmp_path_factory.mktemp("clean") / "clean")
    fill(builder)
    return builder.finish()


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Path:
    """The same with one of each fault: two recordings of each kind of repetition, and spoofs of eval that begin late."""
    builder = Builder(tmp_path_factory.mktemp("planted") / "planted")
    fill(builder, lambda sound, split, key: np.pad(sound, (4800, 0)) if (split, key) == ("eval", "spoof") else sound)
    plant_files(builder)
    plant_repetitions(builder)
    builder.add("speaker-here", talk(900), "train", speaker="two-splits")
    builder.add("speaker-there", talk(901), "dev", speaker="two-splits")
    builder.add("group-here", talk(902), "train", group="text")
    builder.add("group-there", talk(903), "eval", group="text")
    return builder.finish()


def plant_files(builder: Builder) -> None:
    noise = np.random.default_rng(5).standard_normal(RATE).astype(np.float32)
    builder.add("no-audio", b"no audio at all", "train")
    builder.add("cut-off", (builder.root / builder.rows[0][1]).read_bytes()[:9000], "train")
    builder.add("zeros", np.zeros(RATE, np.float32), "train")
    builder.add("whisper", 2e-4 * noise, "train")
    builder.add("clipped", np.clip(10 * talk(910), -1, 1), "train")


def plant_repetitions(builder: Builder) -> None:
    sounds = {name: talk(920 + number, 2.5) for number, name in enumerate(("same", "coded", "loud", "cut", "labels", "level"))}
    builder.add("same", sounds["same"], "train")
    builder.add("same-wav", sounds["same"], "train", suffix="wav")
    builder.add("coded", sounds["coded"], "dev", "spoof", "engine0")
    builder.add("coded-mp3", sounds["coded"], "dev", "spoof", "engine0", suffix="mp3")
    builder.add("coded-opus", sounds["coded"], "dev", "spoof", "engine0", suffix="ogg", format="OGG", subtype="OPUS")
    builder.add("loud", sounds["loud"], "train")
    builder.add("quiet", 0.2 * sounds["loud"], "train")
    builder.add("cut", sounds["cut"], "eval")
    builder.add("cut-100ms", sounds["cut"][1600:], "eval")
    builder.add("labels", sounds["labels"], "train")
    builder.add("labels-spoof", sounds["labels"], "train", "spoof", "engine1")
    builder.add("level", sounds["level"], "dev", "spoof", "engine1")
    builder.add("level-other", 0.4 * sounds["level"][1600:], "dev", "spoof", "engine2")
    leak, coded = talk(940, 2.5), talk(941, 2.5)
    builder.add("leak", leak, "train")
    builder.add("leak-there", leak, "eval")
    builder.add("coded-leak", coded, "train")
    builder.add("coded-leak-mp3", 0.5 * coded[1000:], "dev", suffix="mp3")
    builder.add("twice", talk(950), "dev")
    builder.add("twice", talk(951), "dev", "spoof", "engine0")
