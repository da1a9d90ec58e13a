"""A sample of the campaign of bench/fuzz_media.py."""

from bench.fuzz_media import campaign, peak_megabytes, seeds


def test_mutated_recordings_are_heard_or_refused_by_name_and_both_times_alike():
    found = campaign(100, seed=11)
    assert len({path.suffix for path in seeds()}) >= 18
    assert len(seeds()) >= 30
    assert found["same"].all(), found.loc[~found["same"], ["form", "damage", "said"]].to_string()
    assert not found["said"].str.contains("ends the decoder|no sound came of it|Error:").any(), found["said"].to_string()
    assert (~found["heard"]).any()
    assert found["heard"].sum() > 30
    assert 0 < peak_megabytes() < 1000
