from earmark.corpora import in_the_wild
from earmark.corpora.checks import find_missing


def test_layout(tmp_path, tone):
    tone("release_in_the_wild/0.wav")
    tone("release_in_the_wild/1.wav")
    lines = 'file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,"King, Martin",bona-fide\n'
    (tmp_path / "release_in_the_wild" / "meta.csv").write_text(lines)
    table = in_the_wild.read(tmp_path)
    assert not find_missing(table).any()
    assert table["utterance_id"].tolist() == ["0.wav", "1.wav"]
    assert table["key"].tolist() == ["spoof", "bonafide"]
    assert table["speaker"].tolist() == ["Alec Guinness", "King, Martin"]
    assert (table["split"] == "eval").all()
    assert in_the_wild.read(tmp_path / "release_in_the_wild").equals(table)


def test_counts_of_the_real_protocol(tmp_path, unpack):
    unpack("in_the_wild.protocol.txt.gz", tmp_path / "in_the_wild.protocol.txt")
    table = in_the_wild.read(tmp_path)
    assert table["key"].value_counts().to_dict() == {"bonafide": 19963, "spoof": 11816}
    assert table["utterance_id"].is_unique
