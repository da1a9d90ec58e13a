from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from earmark.features.clips import Clips, blank, clip_frames, disturbed, windows
from earmark.features.cqt import Cqt
from earmark.features.linear import LinearBands
from earmark.features.shards import Features, precompute
from earmark.params import AudioParams, AugmentationParams, CqtParams, DecodingParams, ShardingParams, TrainingParams
from earmark.training.batches import draw

AUDIO, CQT = AudioParams(clip_samples=16_000), CqtParams()
FRAMES = clip_frames(16_000)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def transform() -> Cqt:
    return Cqt(CQT)


@pytest.fixture(scope="module")
def longest(features) -> str:
    return str(features.index["samples"].idxmax())


def differ(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """Largest differences of log-magnitudes and phases; below -7 lies the rounding noise of a sum over 8,229 samples."""
    loud = other[0] > -7
    turn = (one[1] - other[1]).remainder(2 * torch.pi)
    return (one[0] - other[0])[loud].abs().max().item(), torch.minimum(turn, 2 * torch.pi - turn)[loud].max().item()


def both_ways(features: Features, name: str, start: int, cqt: CqtParams) -> tuple[torch.Tensor, torch.Tensor]:
    """CQT of a crop as computed with its margin and as stored; the waveforms must be the same."""
    transform = Cqt(cqt)
    waveform, stored, label = Clips(features, AUDIO, cqt, "cqt")[name, start, 1]
    crop, empty, same = Clips(features, AUDIO, cqt, "cqt", transform.margin_samples)[name, start, 1]
    views = disturbed(crop[None], AugmentationParams(rawboost=0), AUDIO, transform, generator())
    assert label == same == 1
    assert not len(empty)
    assert stored.shape == views.spectrogram[0].shape == (2, cqt.bins, FRAMES)
    torch.testing.assert_close(views.waveform[0], waveform, atol=0, rtol=0)
    return views.spectrogram[0], stored


@pytest.mark.parametrize("start", [4160, 40 * 320, 50 * 320])
def test_the_stored_view_and_the_computed_one_show_the_same_instant(features, longest, start):
    """With augmentation off, a slice of the shard equals, within float16, what is computed of a crop with its margin."""
    magnitude, phase = differ(*both_ways(features, longest, start, CQT))
    assert magnitude < 0.02
    assert phase < 0.02


def test_at_the_ends_of_a_file_too(protocol, tmp_path):
    """Of 84 bins nnAudio halves the signal and cuts the filter's ringing at a file's ends, of 96 it does not: those are equal there."""
    cqt = CqtParams(bins=96, fmin_hz=31.25)
    precompute(protocol[:3], DecodingParams(), AUDIO, cqt, ShardingParams(), tmp_path, threads=1)
    features = Features(tmp_path)
    for name, samples in features.index["samples"].items():
        for start in {0, (samples - 16_000) // 320 * 320}:
            assert max(differ(*both_ways(features, str(name), start, cqt))) < 0.02


def test_a_click_stands_at_the_same_place_in_both_views(transform):
    margin = transform.margin_samples
    waveform = torch.zeros(1, margin + 16_000 + margin)
    waveform[0, margin + 25 * 320] = 1
    views = disturbed(waveform, AugmentationParams(rawboost=0), AUDIO, transform, generator())
    assert views.waveform.argmax() == 25 * 320
    assert views.spectrogram[0, 0, -12:].mean(0).argmax() == 25


@pytest.mark.parametrize("algorithm", [3, 4])
def test_the_cqt_of_a_disturbed_clip_is_that_of_the_disturbed_waveform(features, transform, longest, algorithm):
    wide = Clips(features, AUDIO, CQT, "cqt", transform.margin_samples)
    crop = torch.stack([wide[longest, start, 1][0] for start in (0, 9600)])
    views = disturbed(crop, AugmentationParams(rawboost=algorithm), AUDIO, transform, generator())
    level = 20 * views.waveform.square().mean(-1).sqrt().log10()
    assert level.tolist() == pytest.approx([-26, -26], abs=1e-3)
    clean = disturbed(crop, AugmentationParams(rawboost=0), AUDIO, transform, generator())
    assert (views.waveform - clean.waveform).norm() > 1e-2 * clean.waveform.norm()
    # away from the ends the margin plays no part: transform the waveform alone and compare
    inside, alone = slice(20, 29), transform(views.waveform)
    torch.testing.assert_close(alone[:, 0, 48:, inside], views.spectrogram[:, 0, 48:, inside], atol=2e-2, rtol=0)


def test_a_seed_disturbs_alike(transform):
    crop = 0.1 * torch.randn(2, 16_000 + 2 * transform.margin_samples, generator=generator())
    settings = AugmentationParams(rawboost=5)
    one, same, other = (disturbed(crop, settings, AUDIO, transform, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.waveform, same.waveform)
    assert torch.equal(one.spectrogram, same.spectrogram)
    assert not torch.equal(one.waveform, other.waveform)


@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_blanked_is_one_band_and_one_stretch_no_wider_than_asked(channels):
    whole = torch.randn(64, channels, 84, 50, generator=generator())
    assert torch.equal(blank(whole, 0, 0, generator()), whole)
    for axis, found in ((2, blank(whole, 16, 0, generator())), (3, blank(whole, 0, 16, generator()))):
        hit = (found != whole).any(1).all(4 - axis)  # whole bins, whole frames
        widths = hit.sum(1)
        assert widths.max() in range(10, 17)
        assert len(set(widths.tolist())) > 5
        assert (hit.int().diff(dim=1).abs().sum(1) <= 2).all()
        assert torch.equal((found != whole).any(1), hit[:, :, None].expand(-1, -1, 50) if axis == 2 else hit[:, None].expand(-1, 84, -1))
        gone = found != whole
        mean = whole[:, 0].mean((1, 2))[:, None, None].expand(-1, 84, 50)
        torch.testing.assert_close(found[:, 0][gone[:, 0]], mean[gone[:, 0]])
        assert (found[:, 1:][gone[:, 1:]] == 0).all()
    both = blank(whole, 16, 16, generator()) != whole
    assert both.any(1).all(2).any()
    assert both.any(1).all(1).any()


def test_linear_bands_show_a_tone_where_it_lies_and_at_its_instant(features, longest):
    time = torch.arange(16_000) / 16_000
    tone = 0.1 * torch.sin(2 * torch.pi * 5050 * time) * (time >= 0.5)
    bands = LinearBands()(tone[None])
    assert bands.shape == (1, 1, 80, 101)
    assert bands[0, 0, :, 80].argmax() == 50  # bands 98.8 Hz apart
    assert (bands[0, 0, 50].diff()).argmax() + 1 == pytest.approx(50, abs=1)
    assert bands.min() == pytest.approx(np.log(1e-9))
    waveform, seen, _ = Clips(features, AUDIO, CQT, "linear")[longest, 3200, 1]
    torch.testing.assert_close(seen, LinearBands()(waveform[None])[0])
    crop, _, _ = Clips(features, AUDIO, CQT, "linear", LinearBands.margin_samples)[longest, 3200, 1]
    noisy = disturbed(crop[None], AugmentationParams(rawboost=5), AUDIO, LinearBands(), generator())
    torch.testing.assert_close(noisy.spectrogram, LinearBands()(noisy.waveform))
    assert not torch.allclose(noisy.spectrogram[0], seen, atol=0.1)


def rows(bonafide: int, made: int, others: int) -> pd.DataFrame:
    ids = [f"u{number}" for number in range(bonafide + made + others)]
    keys = ["bonafide"] * bonafide + ["spoof"] * (made + others)
    return pd.DataFrame({"utterance_id": ids, "key": keys, "copied": [False] * bonafide + [True] * made + [False] * others})


def index(table: pd.DataFrame, samples: int = 50_000) -> pd.DataFrame:
    return pd.DataFrame({"samples": samples}, index=table["utterance_id"])


def drawn(table: pd.DataFrame, seed=(1, 0), samples: int = 50_000, **training) -> list[tuple[str, int, int]]:
    return draw(table, index(table, samples), AUDIO, CQT, TrainingParams(**training), seed)


def test_an_epoch_takes_every_row_once_with_its_label():
    table = rows(10, 4, 6)
    items = drawn(table)
    assert sorted(item[0] for item in items) == sorted(table["utterance_id"])
    truth = dict(zip(table["utterance_id"], (table["key"] == "bonafide").astype(int), strict=True))
    assert all(label == truth[name] for name, _, label in items)


@pytest.mark.parametrize("balance", [False, True])
def test_repeats_are_whole_passes_each_drawn_anew(balance):
    table = rows(10, 0, 10)
    items = drawn(table, repeats=3, balance=balance)
    passes = [items[first : first + 20] for first in (0, 20, 40)]
    assert len(items) == 60
    assert all(sorted(name for name, *_ in part) == sorted(table["utterance_id"]) for part in passes)
    assert passes[0] != passes[1] != passes[2]


def test_sources_are_drawn_alike_where_that_is_asked_for():
    table = rows(12, 0, 20).assign(source=[None] * 12 + ["often"] * 17 + ["rare"] * 2 + ["once"])
    unnamed = drawn(table.assign(source=None), balance=True, sources_alike=True)
    assert sum(not label for *_, label in unnamed) == 12
    owner = dict(zip(table["utterance_id"], table["source"], strict=True))
    counts = Counter(owner[name] for name, _, label in drawn(table, balance=True, sources_alike=True) if not label)
    assert counts == {"often": 4, "rare": 4, "once": 4}
    names = Counter(name for name, _, label in drawn(table, balance=True, sources_alike=True) if not label)
    assert sorted(count for name, count in names.items() if owner[name] == "rare") == [2, 2]


def test_a_draw_is_a_function_of_its_seed():
    table = rows(10, 4, 6)
    assert drawn(table, (1, 0)) == drawn(table, (1, 0))
    assert drawn(table, (1, 0)) != drawn(table, (1, 1))
    assert drawn(table, (1, 0)) != drawn(table, (2, 0))


def test_crops_begin_on_a_frame_and_reach_both_ends():
    table = rows(600, 0, 600)
    starts = [start for _, start, _ in drawn(table, samples=20_799)]
    assert all(start % 320 == 0 for start in starts)
    assert min(starts) == 0
    assert max(starts) == 4480  # 14 frames; the 15th would end beyond 20,799 samples
    assert {start for _, start, _ in drawn(table, samples=16_000)} == {0}


@pytest.mark.parametrize(("copy_share", "copies"), [(0.5, 10), (0.0, 0), (1.0, 20), (0.25, 5)])
def test_balanced_draws_take_half_bona_fide_and_the_share_of_made_spoofs(copy_share, copies):
    table = rows(20, 50, 6)
    items = drawn(table, balance=True, copy_share=copy_share)
    made = set(table["utterance_id"][table["copied"]])
    assert len(items) == 40
    assert sum(label for *_, label in items) == 20
    assert sum(name in made for name, *_ in items) == copies


def test_balanced_draws_of_one_kind_of_spoof_take_that_kind():
    for table in (rows(20, 30, 0), rows(20, 0, 30)):
        items = drawn(table, balance=True, copy_share=0.3)
        assert sum(label for *_, label in items) == 20
        assert len(items) == 40


def test_no_spoof_is_drawn_a_second_time_before_all_were_drawn_once():
    counts = Counter(name for name, _, label in drawn(rows(40, 0, 12), balance=True) if not label)
    assert len(counts) == 12
    assert set(counts.values()) <= {3, 4}


@pytest.mark.parametrize("samples", [16_000, 16_319, 16_320, 24_000, 50_001, 123_456])
def test_windows_cover_a_file_with_the_last_one_flush_right_on_the_frame_grid(samples):
    table = rows(1, 0, 0)
    starts = [start for _, start in windows(table, index(table, samples), AUDIO, CQT)]
    assert starts[0] == 0
    assert all(start % 320 == 0 for start in starts)
    assert all(0 < step <= 8000 for step in np.diff(starts))
    assert samples - 320 < starts[-1] + 16_000 <= samples
    assert len(set(starts)) == len(starts)


def test_windows_name_their_utterance(protocol, features):
    found = list(windows(protocol, features.index, AUDIO, CQT))
    assert list(dict.fromkeys(name for name, _ in found)) == list(protocol["utterance_id"])
    clips = Clips(features, AUDIO, CQT, "cqt")
    assert all(clips[name, start, 0][0].shape == (16_000,) and clips[name, start, 0][1].shape == (2, 84, FRAMES) for name, start in found)
