import numpy as np
import pytest

from earmark.audio.channels import describe, mean, voices

RNG = np.random.default_rng(7)
SECONDS = 12


def noise(level: float = 0.1) -> np.ndarray:
    return (level * RNG.standard_normal(16_000 * SECONDS)).astype(np.float32)


def heard(*channels: np.ndarray, correlation: float = 0.8) -> list[tuple[int | None, np.ndarray]]:
    samples = np.stack(channels, axis=1)
    return [tuple(one) for one in voices(samples, describe(samples), correlation)]


def test_channels_that_are_alike_are_one_voice():
    voice = noise()
    ((channel, samples),) = heard(voice, 0.5 * voice, voice + noise(0.01))
    assert channel is None
    np.testing.assert_allclose(samples, (2.5 * voice) / 3, atol=0.02)


def test_an_inverted_channel_is_turned_round_and_not_silence():
    voice = noise()
    ((channel, samples),) = heard(voice, -voice)
    assert channel is None
    np.testing.assert_allclose(np.abs(samples), np.abs(voice), atol=1e-6)


def test_channels_that_differ_are_voices_of_their_own_and_never_summed():
    agent, customer = noise(), noise(0.03)
    found = heard(agent, customer)
    assert [channel for channel, _ in found] == [1, 2]
    np.testing.assert_array_equal(found[0][1], agent)
    np.testing.assert_array_equal(found[1][1], customer)


def test_channels_that_differ_for_a_few_seconds_differ():
    voice = noise()
    other = voice.copy()
    other[16_000 * 5 : 16_000 * 9] = noise()[16_000 * 5 : 16_000 * 9]
    assert [channel for channel, _ in heard(voice, other)] == [1, 2]
    assert [channel for channel, _ in heard(voice, other, correlation=0.0)] == [None]


def test_people_who_take_turns_are_voices_of_their_own():
    voice, half = noise(), 16_000 * SECONDS // 2
    first, second = voice.copy(), voice.copy()
    first[half:], second[:half] = 0, 0
    assert [channel for channel, _ in heard(first, second)] == [1, 2]


def test_a_channel_that_is_inverted_for_a_part_is_not_alike():
    voice = noise()
    other = np.where(np.arange(len(voice)) < len(voice) // 2, voice, -voice)
    assert [channel for channel, _ in heard(voice, other)] == [1, 2]


@pytest.mark.parametrize("leak", [0.0, 1e-5])
def test_a_channel_that_says_nothing_is_left(leak):
    ((channel, _),) = heard(noise(0.1), noise(leak))
    assert channel == 1
    assert heard(noise(leak), noise(0.1))[0][0] == 2


def test_what_differs_in_a_pause_alone_is_alike():
    voice = np.where(np.arange(16_000 * SECONDS) < 16_000 * 8, noise(), 0).astype(np.float32)
    hiss = [noise(1e-4), noise(1e-4)]
    assert [channel for channel, _ in heard(voice + hiss[0], voice + hiss[1])] == [None]


def test_a_row_says_level_and_likeness_of_a_channel():
    voice = noise(0.1)
    one, two, three = describe(np.stack((voice, -0.5 * voice, 0 * voice), axis=1))
    assert (one.number, one.correlation, three.level_dbfs, three.correlation) == (1, None, None, None)
    assert one.level_dbfs == pytest.approx(-20, abs=0.1)
    assert (two.level_dbfs, two.correlation) == (pytest.approx(-26, abs=0.1), pytest.approx(-1))


def test_samples_on_the_disk_give_what_samples_in_memory_give(tmp_path):
    samples = np.stack((noise(), noise()), axis=1)
    samples.tofile(tmp_path / "s")
    mapped = np.memmap(tmp_path / "s", np.float32, mode="r").reshape(-1, 2)
    np.testing.assert_array_equal(mean(mapped), mean(samples))
    assert describe(mapped) == describe(samples)


def test_the_end_of_a_recording_counts_too():
    voice = noise()[: 16_000 * 7]
    other = voice.copy()
    other[16_000 * 4 :] = noise()[16_000 * 4 : 16_000 * 7]
    assert [channel for channel, _ in heard(voice, other)] == [1, 2]


def test_a_constant_is_no_voice():
    ((channel, _),) = heard(noise(0.02), np.full(16_000 * SECONDS, 0.02, np.float32))
    assert channel == 1
