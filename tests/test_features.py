"""Features as CSV: written row by row, read back bit for bit, and used only while up to date."""

from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, SPLIT_NAMES, tiny_recipe, write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyimagesearch import features
from pyimagesearch.datasets import Photos, Splits
from pyimagesearch.support import files
from pyimagesearch.support.errors import UserError

# Examples share the folder of their test, and overwrite its files.
IN_ONE_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)

FACTS = {"columns": 5, "columns_of_last_map": 5, "channels": 5, "precision": "float32"}


def photos_of(labels, classes=CLASSES):
    """Return Photos with these labels."""
    paths = tuple(Path(f"{number}.jpg") for number in range(len(labels)))
    return Photos(paths, np.asarray(labels), classes)


def awkward_numbers(count, columns=5):
    """Return float32 numbers of every size, among them the largest and the smallest."""
    bits = np.random.default_rng(0).integers(0, 2**32, size=count * columns, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers[~np.isfinite(numbers)] = 0
    numbers[:4] = np.finfo(np.float32).max, -np.finfo(np.float32).tiny, 1e-45, -0.0
    return numbers.reshape(count, columns)


@pytest.fixture
def rows(monkeypatch):
    """Return more rows than are parsed at a time."""
    monkeypatch.setattr(features, "BLOCK_BYTES", 2000)
    return awkward_numbers(135)


@pytest.fixture
def labels(rows):
    return np.arange(len(rows)) % len(CLASSES)


@pytest.fixture
def path(tmp_path, rows, labels):
    path = tmp_path / "tiny" / "features" / "training.csv"
    features.write_csv(path, labels, [rows[:100], rows[100:]])
    return path


def assert_same_bits(ours, theirs):
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


# A CSV gives back what was written


def test_row_is_the_label_and_then_the_features_with_nine_digits(tmp_path):
    rows = np.array([[0, 1.5], [1 / 3, 2e-30]], np.float32)
    write_csv(tmp_path / "training.csv", [0, 1], rows)
    text = (tmp_path / "training.csv").read_text()
    assert text == "0,0,1.5\n1,0.333333343,2.00000001e-30\n"


def test_csv_gives_back_every_bit(path, rows, labels):
    assert_same_bits(features.read_split(path, photos_of(labels), 5), rows)


@pytest.mark.parametrize("zeros", [0.5, 0.95, 1])
def test_zeros_come_back_where_they_were(tmp_path, zeros):
    rng = np.random.default_rng(1)
    rows = np.where(rng.random((40, 9)) < zeros, 0, rng.normal(size=(40, 9))).astype(np.float32)
    rows[5, 2:4] = -0.0, 10
    path, labels = tmp_path / "training.csv", np.arange(40) % len(CLASSES)
    write_csv(path, labels, rows)
    assert_same_bits(features.read_split(path, photos_of(labels), 9), rows)


@IN_ONE_FOLDER
@given(data=st.data(), count=st.integers(1, 9), columns=st.integers(1, 6))
def test_every_float_comes_back_bit_for_bit(tmp_path, data, count, columns):
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    size = count * columns
    numbers = data.draw(st.lists(floats, min_size=size, max_size=size))
    rows = np.array(numbers, np.float32).reshape(count, columns)
    labels = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    path = tmp_path / "training.csv"
    write_csv(path, labels, rows)
    assert_same_bits(features.read_split(path, photos_of(labels), columns), rows)


@IN_ONE_FOLDER
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, data):
    path = tmp_path / "tiny" / "features" / "training.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        rows = features.read_split(path, photos_of([0, 1, 2]), 2)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert rows.shape == (3, 2)
    assert np.isfinite(rows).all()


def test_csv_appears_when_it_is_complete(tmp_path, rows, labels):
    def interrupted():
        yield rows[:100]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features.write_csv(tmp_path / "training.csv", labels, interrupted())
    assert list(tmp_path.iterdir()) == []


def test_blocks_are_small_and_in_the_order_of_the_photos(path, rows, labels):
    blocks = list(features.read_blocks(path, photos_of(labels), 5))
    assert_same_bits(np.concatenate(blocks), rows)
    # A block ends with the first row that ends after BLOCK_BYTES.
    longest = max(map(len, path.read_bytes().splitlines()))
    shortest = min(map(len, path.read_bytes().splitlines()))
    assert len(blocks) > 3
    assert max(map(len, blocks)) <= (features.BLOCK_BYTES + longest) // shortest


# A damaged CSV is refused


@pytest.mark.parametrize("cell", ["", " ", "x", "nan", "0x", "0 0", '"0"'])
def test_cell_between_zeros_that_is_not_a_number_is_refused(tmp_path, cell):
    path = tmp_path / "tiny" / "training.csv"
    path.parent.mkdir()
    path.write_text(f"0,0,0,0\n1,0,{cell},0\n2,0,0,0\n")
    with pytest.raises(UserError, match=r"damaged|not numbers"):
        list(features.parse_csv(path, len(CLASSES)))


def test_rows_of_other_photos_are_refused(path, labels):
    other = labels.copy()
    other[-1] = (other[-1] + 1) % len(CLASSES)
    for wrong in (other, labels[:-1], np.append(labels, 0)):
        with pytest.raises(UserError, match="rows that are not the"):
            features.read_split(path, photos_of(wrong), 5)


def test_damaged_row_far_down_is_refused(path, labels):
    first, later = path.read_text().replace(",", ";", 1), path.read_text()[:-40] + ",,\n"
    for damaged in (first, later):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"damaged.*Make it again"):
            features.read_split(path, photos_of(labels), 5)


# An interrupted extraction


def test_unfinished_features_of_the_same_work_stay(tmp_path):
    features.begin(tmp_path, {"photos": 1}, "float32")
    (tmp_path / "training.csv").write_text("0,1\n")
    stopwatch = features.begin(tmp_path, {"photos": 1}, "float32")
    assert (tmp_path / "training.csv").exists()
    stopwatch.save()
    path = tmp_path / features.SECONDS_FILE
    files.write_json(path, files.read_json(path) | {"seconds": 50})
    assert features.begin(tmp_path, {"photos": 1}, "float32").seconds > 50


@pytest.mark.parametrize("other", [({"photos": 2}, "float32"), ({"photos": 1}, "mixed_bfloat16")])
def test_unfinished_features_of_other_work_are_deleted(tmp_path, other):
    features.begin(tmp_path, {"photos": 1}, "float32").save()
    (tmp_path / "training.csv").write_text("0,1\n")
    assert features.begin(tmp_path, *other).seconds < 50
    assert not (tmp_path / "training.csv").exists()


def test_finished_features_are_unfinished_before_they_are_replaced(tmp_path):
    stopwatch = features.begin(tmp_path, {"format": 2}, "float32")
    features.finish(tmp_path, {"format": 2}, FACTS, stopwatch)
    recorded = files.read_json(tmp_path / features.FINGERPRINT_FILE)
    assert FACTS.items() <= recorded.items()
    assert [path.name for path in tmp_path.iterdir()] == [features.FINGERPRINT_FILE]
    (tmp_path / "training.csv").write_text("0,1\n")
    features.begin(tmp_path, {"format": 2}, "float32")
    assert not (tmp_path / features.FINGERPRINT_FILE).exists()
    assert not (tmp_path / "training.csv").exists()


# What train.py requires


def fingerprint_of(**changes):
    """Return the fingerprint of the tiny recipe's features, with photos that are not on disk."""
    nothing = photos_of([])
    splits = Splits(nothing, nothing, nothing)
    return features.fingerprint(tiny_recipe(**changes), splits, "float32", "imagenet")


@pytest.fixture
def finished(tmp_path):
    """Return the folder of finished features of the tiny recipe."""
    folder, wanted = tmp_path / "tiny" / "features", fingerprint_of()
    stopwatch = features.begin(folder, wanted, "float32")
    for name in (*(f"{split}.csv" for split in SPLIT_NAMES), features.BACKBONE_FILE):
        (folder / name).touch()
    features.finish(folder, wanted, FACTS, stopwatch)
    return folder


def require(folder, **changes):
    recipe = tiny_recipe(**changes)
    return features.require(folder, recipe, fingerprint_of(**changes), SPLIT_NAMES)


def test_finished_features_are_returned_with_what_is_recorded_about_them(finished):
    recorded = require(finished)
    assert FACTS.items() <= recorded.items()
    assert recorded["seconds"] >= 0


def test_unfinished_features_are_refused_with_the_command(finished):
    (finished / features.FINGERPRINT_FILE).unlink()
    words = r"training\.csv is missing\. Make it with: python extract_features\.py --recipe tiny$"
    with pytest.raises(UserError, match=words):
        require(finished)


@pytest.mark.parametrize("name", ["training.csv", "evaluation.csv", "backbone.keras"])
def test_missing_file_is_named_with_the_command_and_force(finished, name):
    (finished / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing\. .* --recipe tiny --force$"):
        require(finished)


def test_features_of_other_settings_are_refused_with_what_changed(finished):
    words = r"out of date: image_size was 32 and is now 48\. Update it with: python extract"
    with pytest.raises(UserError, match=words):
        require(finished, image_size=48)


def test_settings_that_do_not_change_the_features_do_not_matter(finished):
    assert require(finished, batch_size=9, views=5, mistakes=1)["columns"] == 5


# Room on the disk and in memory


@pytest.fixture
def free(monkeypatch):
    """Return a function that pretends that so many bytes are free, on the disk and in memory."""

    def pretend(disk, memory=10**12):
        usage = features.shutil.disk_usage(".")._replace(free=disk)
        monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage)
        monkeypatch.setattr(features.machine, "available_memory", lambda: memory)

    return pretend


VGG16_FACTS = {"columns": 25088, "columns_of_last_map": 25088, "channels": 512}


def test_most_bytes_are_those_on_the_disk_at_the_worst_moment():
    # 10 bytes as an array and 1 as a CSV: the arrays of all splits and the first CSV.
    assert features.most_bytes([6, 2, 2], 10, 1) == 100 + 6
    # Where the CSV is larger than the array, the last CSV is the worst moment.
    assert features.most_bytes([6, 2, 2], 1, 10) == 60 + 20 + 20 + 2


def test_features_that_do_not_fit_the_disk_are_refused_with_their_size_and_the_remedy(
    tmp_path, free
):
    def first_features():
        return np.zeros((4, 25088), np.float32)

    # 1,000,000 photos: 100.352 GB of arrays. Of zeros, the CSV takes 50,178 bytes a photo.
    counts, needed = (700_000, 150_000, 150_000), 100.352e9 + 700_000 * 50_178
    free(needed / features.FULL_DISK - 1e6)
    with pytest.raises(UserError) as refused:
        features.require_room(tmp_path, counts, VGG16_FACTS, first_features)
    assert "the features of 1,000,000 photos, 25,088 each, need 135.5 GB in" in str(refused.value)
    assert "pooling='average' in the recipe's head, a photo has 512" in str(refused.value)
    free(needed / features.FULL_DISK + 1e6)
    features.require_room(tmp_path, counts, VGG16_FACTS, first_features)


def test_averaged_features_are_refused_without_proposing_to_average_them(tmp_path, free):
    facts = {"columns": 768, "columns_of_last_map": 512, "channels": 512}
    free(10**6)
    with pytest.raises(UserError) as refused:
        features.require_room(tmp_path, (900, 50, 50), facts, lambda: np.ones((1, 768)))
    assert "pooling" not in str(refused.value)


def test_what_an_interrupted_extraction_has_written_counts_as_room(tmp_path, free):
    facts = {"columns": 10, "columns_of_last_map": 10, "channels": 10}
    outputs = tmp_path / features.OUTPUTS_FOLDER / "training.npy"
    outputs.parent.mkdir()
    outputs.write_bytes(bytes(40_000))
    arguments = tmp_path, (1000,), facts, lambda: np.zeros((1, 10))
    free(26_000)
    features.require_room(*arguments)
    outputs.write_bytes(b"")
    with pytest.raises(UserError, match="1,000 photos"):
        features.require_room(*arguments)


def test_features_are_not_computed_for_the_check_if_there_is_plenty_of_room(tmp_path, free):
    free(10**12)
    features.require_room(tmp_path, (10, 5, 5), VGG16_FACTS, lambda: pytest.fail("computed"))


def test_features_larger_than_the_memory_are_announced_with_their_size(free, capsys):
    free(disk=10**13, memory=8 * 10**9)
    features.warn_of_memory(70_000, VGG16_FACTS)
    message = capsys.readouterr().err
    assert "on 70,000 photos with 25,088 features each needs 9.1 GB of memory" in message
    assert "8.0 GB are available" in message
    assert "read 7.0 GB from the disk in every iteration" in message
    assert "a photo has 512 features" in message
    features.warn_of_memory(60_000, VGG16_FACTS)
    assert not capsys.readouterr().err
