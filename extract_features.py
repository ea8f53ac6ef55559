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
    dataset, output = (each / recipe.name for each in (config.DATASET_DIR, config.OUTPUT_DIR))
    names = (config.TRAIN, config.VAL, config.TEST)
    with files.held(dataset, shared=True):
        splits = {name: images.list_photos(config.DATASET_DIR, recipe, name) for name in names}
        with files.held(output):
            origin = features.origin(recipe, splits, config)
            made = files.read_json(output / "features" / features.MADE_FROM)
            changes = ["there are none yet"] if made is None else features.changes(made, origin)
            if changes or arguments.force:
                if made and changes:
                    console.info(f"extracting again: {'; '.join(changes)}")
                extract_all(recipe, splits, output / "features", origin)
            else:
                console.info(f"{output / 'features'} is up to date; --force extracts again")
    console.info(
        f"next: {console.command('train', recipe.name, '--method', 'logistic_regression')}"
    )


def extract_all(recipe, splits, folder, origin):
    """Write the CSV of every split, and the network that made them."""
    console.load_tensorflow()
    from pyimagesearch import artifacts, config, features, files, networks

    precision = networks.set_precision(config.PRECISION)
    weights = networks.find_weights(recipe.backbone, config.WEIGHTS)
    extractor = networks.build_feature_extractor(recipe, weights)
    console.info(f"{recipe.backbone} without its top, computing in {precision}")

    # What says that the features are complete goes first and comes back last.
    (folder / features.MADE_FROM).unlink(missing_ok=True)
    features.begin(folder, {**origin, "precision": precision, "versions": artifacts.versions()})
    # What a classifier is judged by goes through it as it will be saved and asked: in float32.
    exact = networks.in_float32(extractor)
    fast_run, exact_run = networks.forward(extractor), networks.forward(exact)
    seconds, waiting = 0, console.Waiting()
    for name, photos in splits.items():
        path = folder / f"{name}.csv"
        took, finished = features.noted(path)
        if finished:
            console.info(f"{name}: finished before the interruption")
        else:
            clock = console.Stopwatch()
            run = exact_run if name == config.TEST else fast_run
            columns = None
            try:
                columns = extract(run, recipe, photos, path, waiting)
            finally:
                took += clock.seconds
                features.note(path, took, finished=columns is not None)
            console.info(
                f"{name}: {len(photos):,} photos -> {path} ({columns:,} columns, "
                f"{console.duration(took)})"
            )
        seconds += took
    if waiting.seconds:
        console.info(f"the network waited for photos {waiting.share:.1%} of the time")

    files.write_json(folder / "classes.json", list(recipe.classes))
    with files.whole(folder / "backbone.keras") as partial:
        exact.save(partial)
    made = {
        **origin,
        "columns": extractor.output_shape[-1],
        "precision": precision,
        "seconds": round(seconds, 3),
        "waiting_share": round(waiting.share, 4) if waiting.seconds else None,
    }
    files.write_json(folder / features.MADE_FROM, made)
    files.remove(folder / features.BEGUN)


def extract(run, recipe, photos, path, waiting):
    """Write what a network says of the photos of a split; return the number of features."""
    from pyimagesearch import features, images

    def outputs(start):
        paths = photos.paths[start:]
        return map(run, waiting.over(images.batches(paths, recipe.image_size, recipe.batch_size)))

    with console.progress(path.stem, len(photos)) as done:
        return features.write_csv(path, photos.labels, recipe.batch_size, outputs, done)


if __name__ == "__main__":
    console.run(main)
