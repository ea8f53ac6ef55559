"""Copy the photos of a download to dataset/<recipe>/<split>/<class>/ and check each of them.

    python build_dataset.py --recipe food11

The download is read from the recipe's `source`, and is not changed. If you run the script again,
it only copies new and changed photos; the others stay in the split that they are in.
"""

from pathlib import Path

from pyimagesearch.recipe import find_recipe
from pyimagesearch.support import console


def main(argv=None):
    parser = console.argument_parser(__doc__)
    add = parser.add_argument
    add("--force", action="store_true", help="check, divide and copy every photo again")
    add("--skip-small-classes", action="store_true", help="leave out classes with too few photos")
    arguments = parser.parse_args(argv)

    from pyimagesearch import config, datasets
    from pyimagesearch.support import files

    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    folder = Path(config.DATASET_DIR) / recipe.name
    stopwatch = console.Stopwatch()

    found = datasets.find_originals(recipe, config.SPLITS)
    photos, classes = found.originals, found.recipe.classes
    console.info(f"{recipe.source}: {len(photos):,} photos of {len(classes)} classes")
    datasets.refuse_source_in_dataset(found, folder, config.SPLITS)

    with files.locked(folder):
        recipe, total, new = divide_and_copy(recipe, found, folder, arguments)
        draw_first_look(recipe, new)

    if new:
        console.info(f"{total:,} photos in {folder}, {new:,} of them new ({stopwatch})")
    else:
        console.info(f"{folder} is up to date: {total:,} photos ({stopwatch})")
    next_script = "extract_features" if recipe.method == "logistic_regression" else "train"
    console.info(f"next: {console.command(next_script, recipe.name)}")


def divide_and_copy(recipe, found, folder, arguments):
    """Bring a dataset's folder up to date with the datasets.Found photos of a download.

    `recipe` is that of config.py. Returns (recipe with the classes of the dataset, number of its
    photos, number of those that are new).
    """
    from pyimagesearch import config, datasets
    from pyimagesearch.support import copies

    record = copies.NO_RECORD if arguments.force else copies.read_record(folder)
    checked = check(found, record)
    plan = datasets.plan(
        found, checked, record, folder, config.SPLITS, config.SEED, arguments.skip_small_classes
    )
    datasets.update_record(recipe, found.source, plan, checked, record, folder, config.SEED)
    new = copy(plan.targets, folder, arguments.force)
    datasets.report_problems(plan, checked, folder, config.SPLITS)
    console.show(datasets.count_table(plan, config.SPLITS))
    return plan.recipe, len(plan.targets), new


def check(found, record):
    """Decode every photo of a download once; return a list of datasets.Checked.

    A damaged photo would otherwise stop the training later. It is found before the photos are
    divided, so that it takes no place in any split.
    """
    from pyimagesearch import datasets

    checked = []
    with console.progress("checking photos", len(found.originals)) as advance:
        for photo in datasets.check_photos(found, record):
            checked.append(photo)
            advance()
    return checked


def copy(targets, folder, force):
    """Copy the photos to their targets, split after split; return how many were not there."""
    from pyimagesearch import config, datasets

    new = 0
    for split in config.SPLITS:
        in_split = [item for item in targets.items() if item[0].split == split]
        console.info(f"processing '{split} split': {len(in_split):,} photos...")
        with console.progress(f"{split} split", len(in_split)) as advance:
            for is_new in datasets.copy_photos(in_split, folder, force):
                new += is_new
                advance()
    return new


def draw_first_look(recipe, new):
    """Draw a few training photos of each class, if `new` photos were copied or it is missing."""
    from pyimagesearch import config, datasets

    path = Path(config.OUTPUT_DIR) / recipe.name / "first_look.png"
    if new or not path.is_file():
        # Matplotlib takes a second to import.
        from pyimagesearch.report import figures

        photos = datasets.list_photos(config.DATASET_DIR, recipe, config.TRAIN)
        figures.draw_classes(path, photos)


if __name__ == "__main__":
    console.run(main)
