"""Send every photo through the frozen network once; keep what it says as CSV, one file a split.

    python extract_features.py --recipe food5k

A row is a photo: the number of its class, then its features. The rows stand in the order of the
classes and, within a class, of the file names.
"""

from pyimagesearch import console


def main(argv=None):
    parser = console.parser(__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="extract again what is there")
    arguments = parser.parse_args(argv)

    from pyimagesearch import config, features, files, images

    recipe = console.find_recipe(arguments.recipe)
    folder = config.OUTPUT_DIR / recipe.name / "features"
    names = (config.TRAIN, config.VAL, config.TEST)
    splits = {name: images.list_photos(config.DATASET_DIR, recipe, name) for name in names}

    origin = features.origin(recipe, splits, config)
    follows = f"next: python train.py --recipe {recipe.name} --method logistic_regression"
    made = files.read_json(folder / features.MADE_FROM)
    if made and not arguments.force:
        changes = features.changes(made, origin)
        if not changes:
            console.info(f"{folder} is up to date; --force extracts again")
            console.info(follows)
            return
        console.info(f"extracting again: {'; '.join(changes)}")

    console.load_tensorflow()
    from pyimagesearch import networks

    precision = networks.set_precision(config.PRECISION)
    weights = networks.find_weights(recipe.backbone, config.WEIGHTS)
    extractor = networks.build_feature_extractor(recipe, weights)
    console.info(f"{recipe.backbone} without its top, computing in {precision}")

    # What says that the features are complete goes first and comes back last.
    (folder / features.MADE_FROM).unlink(missing_ok=True)
    # What a classifier is judged by goes through it as it will be saved and asked: in float32.
    exact = networks.in_float32(extractor)
    fast_run, exact_run = networks.forward(extractor), networks.forward(exact)
    total, waiting = console.Stopwatch(), console.Waiting()
    for name, photos in splits.items():
        clock = console.Stopwatch()
        pixels = images.batches(photos.paths, recipe.image_size, recipe.batch_size)
        rows = map(exact_run if name == config.TEST else fast_run, waiting.over(pixels))
        path = folder / f"{name}.csv"
        with console.progress(name, len(photos)) as done:
            columns = features.write_csv(path, photos.labels, rows, done)
        console.info(f"{name}: {len(photos):,} photos -> {path} ({columns:,} columns, {clock})")

    console.info(f"the network waited for photos {waiting.share:.1%} of the time")

    files.write_json(folder / "classes.json", list(recipe.classes))
    with files.whole(folder / "backbone.keras") as partial:
        exact.save(partial)
    seconds = round(total.seconds, 1)
    made = {
        **origin,
        "columns": columns,
        "precision": precision,
        "seconds": seconds,
        "waiting_share": round(waiting.share, 4),
    }
    files.write_json(folder / features.MADE_FROM, made)
    console.info(follows)


if __name__ == "__main__":
    console.run(main)
