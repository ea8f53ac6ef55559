"""Fingerprints say whether a result can be used, and if not, what changed."""

import json

from pyimagesearch.support import fingerprints

PARTS = {"SEED": 42, "classes": ("a", "b"), "head": {"units": 8}, "phases": [{"epochs": 2}]}


def differences(**changes):
    stored = fingerprints.fingerprint(PARTS)
    return fingerprints.differences(stored, fingerprints.fingerprint(PARTS | changes))


def test_fingerprint_survives_json():
    fingerprint = fingerprints.fingerprint(PARTS)
    assert json.loads(json.dumps(fingerprint)) == fingerprint
    assert differences() == []


def test_differences_name_the_part_and_both_values():
    assert differences(SEED=43) == ["SEED was 42 and is now 43"]
    assert differences(head={"units": 9}) == ["head.units was 8 and is now 9"]
    assert differences(phases=[{"epochs": 3}]) == ["phases[0].epochs was 2 and is now 3"]
    assert len(differences(SEED=1, classes=("a", "c"))) == 2


def test_differences_do_not_print_digests():
    digests = [fingerprints.digest(number) for number in (1, 2)]
    stored, wanted = (fingerprints.fingerprint({"the training photos": d}) for d in digests)
    assert fingerprints.differences(stored, wanted) == ["the training photos changed"]


def test_differences_do_not_print_long_lists():
    stored, wanted = (
        fingerprints.fingerprint({"classes": [f"class {number}" for number in range(count)]})
        for count in (2, 525)
    )
    assert fingerprints.differences(stored, wanted) == ["classes changed"]


def test_parts_that_only_the_stored_fingerprint_has_do_not_matter():
    stored = fingerprints.fingerprint(PARTS | {"seconds": 3})
    assert fingerprints.differences(stored, fingerprints.fingerprint(PARTS)) == []


def test_results_of_an_earlier_version_are_made_again():
    wanted = fingerprints.fingerprint(PARTS)
    for stored in (None, {}, {"SEED": 42}):
        [phrase] = fingerprints.differences(stored, wanted)
        assert "another version of this project" in phrase


def test_digest_changes_with_each_value():
    digests = [fingerprints.digest(*parts) for parts in ((1, 2), (2, 1), (1,), ("1", 2))]
    assert len(set(digests)) == 4
    assert fingerprints.digest(1, "a") == fingerprints.digest(1, "a")
    assert fingerprints.DIGEST.fullmatch(digests[0])


def test_file_digest_changes_with_the_file(tmp_path):
    path = tmp_path / "weights.h5"
    assert fingerprints.file_digest(path) is None
    path.write_text("a")
    first = fingerprints.file_digest(path)
    path.write_text("ab")
    assert fingerprints.file_digest(path) != first
