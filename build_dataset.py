"""Copy the photos of a download to dataset/<recipe>/<split>/<class>/ and check each of them.

    python build_dataset.py --recipe food11

The download is read from the recipe's `source`, and is not changed. If you run the script again,
it only copies new and changed photos.
"""

from pathlib import Path

from pyimagesearch.recipe import find_recipe
from pyimagesearch.support import console


def main(argv=None):
    parser = console.argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="check and copy every photo again")
    arguments = parser.parse_args(argv)

    from pyimagesearch import config, datasets
    from pyimagesearch.support import files

    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    folder = Path(config.DATASET_DIR) / recipe.name
    stopwatch = console.Stopwatch()

    originals = datasets.find_originals(recipe, config.SPLITS, config.SEED)
    console.info(f"{recipe.source}: {len(originals):,} photos of {len(recipe.classes)} classes")
    targets = datasets.plan_copies(recipe, originals, folder)

    # Every photo is decoded once here. A damaged one would otherwise stop the training later.
    results = []
    with files.locked(folder):
        for split in config.SPLITS:
            in_split = {photo: target for photo, target in targets.items() if photo.split == split}
            console.info(f"processing '{split} split': {len(in_split):,} photos...")
            with console.progress(f"{split} split", len(in_split)) as advance:
                for result in datasets.copy_photos(in_split, arguments.force):
                    results.append(result)
                    advance()
        datasets.report_problems(recipe, results, folder, config.SPLITS)

    console.show(datasets.count_table(recipe, results, config.SPLITS))
    total = sum(result.error is None for result in results)
    new = sum(result.is_new for result in results)
    if new:
        console.info(f"{total:,} photos in {folder}, {new:,} of them new ({stopwatch})")
    else:
        console.info(f"{folder} is up to date: {total:,} photos ({stopwatch})")
    next_script = "extract_features" if recipe.method == "logistic_regression" else "train"
    console.info(f"next: {console.command(next_script, recipe.name)}")


if __name__ == "__main__":
    console.run(main)
