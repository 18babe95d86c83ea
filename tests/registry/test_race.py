"""Many processes promote and roll back at once."""

import racing


def test_racing_promotions_and_rollbacks_end_with_one_champion_and_a_whole_record(tmp_path):
    """A thousand of them: python tests/registry/racing.py FOLDER 1000 4"""
    racing.make_versions(tmp_path)
    found = racing.race(tmp_path, acts=24, processes=3)
    assert found["wrong"] == []
    assert sum(found["acts"].values()) == 24 and found["log"]["promote"] >= 1
