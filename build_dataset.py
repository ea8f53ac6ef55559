"""Sort a download into dataset/<recipe>/<split>/<class>/, checking that every photo decodes.

    python build_dataset.py --recipe food11

The download is read where the recipe's `source` says and is left as it is. Running this again
changes nothing that is in place.
"""

from pyimagesearch import console


def main(argv=None):
    parser = console.parser(__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="check and copy every photo again")
    arguments = parser.parse_args(argv)

    from pyimagesearch import config, datasets, files

    recipe = console.find_recipe(arguments.recipe)
    splits = (config.TRAIN, config.VAL, config.TEST)
    clock = console.Stopwatch()

    entries = datasets.find(recipe, splits, config.SEED)
    console.info(f"{recipe.source}: {len(entries):,} photos in {len(recipe.classes)} classes")

    targets = datasets.plan(recipe, entries, config.DATASET_DIR)
    with files.held(config.DATASET_DIR / recipe.name):
        with console.progress("checking and copying", len(entries)) as done:
            results = datasets.build(entries, targets, arguments.force, done)
        datasets.report_build(recipe, results, config.DATASET_DIR, splits)

    console.show(datasets.count_table(recipe, results, splits))
    new = sum(each.new for each in results)
    kept = sum(each.reason is None for each in results)
    folder = config.DATASET_DIR / recipe.name
    if new:
        console.info(f"{new:,} photos copied, {kept:,} in all -> {folder} ({clock})")
    else:
        console.info(f"{folder} is up to date: {kept:,} photos ({clock})")
    follows = "extract_features" if recipe.method == "logistic_regression" else "train"
    console.info(f"next: {console.command(follows, recipe.name)}")


if __name__ == "__main__":
    console.run(main)
