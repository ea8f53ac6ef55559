"""Compute the features of every photo with a frozen network and write them as CSV.

    python extract_features.py --recipe food5k

A row is a photo: the number of its class, then its features. The rows are in the order of the
classes and, within a class, of the file names.
"""

from pathlib import Path

from pyimagesearch.recipe import find_recipe
from pyimagesearch.support import console


def main(argv=None):
    parser = console.argument_parser(__doc__)
    parser.add_argument("--force", action="store_true", help="extract again, even if up to date")
    arguments = parser.parse_args(argv)

    from pyimagesearch import config, datasets, features
    from pyimagesearch.support import files, fingerprints

    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    folder = Path(config.OUTPUT_DIR) / recipe.name / "features"
    with files.locked(Path(config.DATASET_DIR) / recipe.name, shared=True):
        recipe, splits = datasets.open_dataset(config.DATASET_DIR, recipe, config.SPLITS)
        with files.locked(folder.parent):
            wanted = features.fingerprint(recipe, splits, config.PRECISION, config.WEIGHTS)
            recorded = files.read_json(folder / features.FINGERPRINT_FILE)
            changes = recorded and fingerprints.differences(recorded, wanted)
            missing = features.missing_files(folder, config.SPLITS)
            if recorded and (changes or missing):
                reasons = changes or [f"{path} is missing" for path in missing]
                console.info(f"extracting again: {'; '.join(reasons)}")
            if changes or missing or arguments.force:
                extract(recipe, splits, folder, wanted)
            else:
                console.info(f"{folder} is up to date; --force extracts again")
    command = console.command("train", recipe.name, "--method", "logistic_regression")
    console.info(f"next: {command}")


def extract(recipe, splits, folder, fingerprint):
    """Write the CSV of every split, and the network that computed the features."""
    console.import_tensorflow()
    from pyimagesearch import config, features, frozen, networks
    from pyimagesearch.support import files

    console.info("loading network...")
    precision = networks.set_precision(config.PRECISION)
    extractor = networks.build_feature_extractor(recipe, config.WEIGHTS)
    console.info(f"{recipe.backbone} without its top, computing in {precision}")

    stopwatch = features.begin(folder, fingerprint, precision)
    paths = [folder / f"{name}.csv" for name in config.SPLITS]
    # After an interruption, the CSV files that exist are complete.
    outputs = {
        path: frozen.feature_output(split, extractor)
        for path, split in zip(paths, splits._fields, strict=True)
        if not path.is_file()
    }
    inputs = (extractor, recipe, splits, config.SEED, folder / features.OUTPUTS_FOLDER)
    facts = describe(extractor) | {"precision": precision}
    features.warn_of_size(folder, splits, facts)
    with stopwatch:
        store = frozen.compute(tuple(outputs.values()), *inputs, address=config.CLUSTER)
        for path, output in outputs.items():
            labels = getattr(splits, output.split).labels
            features.write_csv(path, labels, store.in_order(output, recipe.batch_size))
            store.delete(output)
            console.info(f"{path.stem}: {len(labels):,} photos -> {path}")

    files.write_json(folder / "classes.json", list(recipe.classes))
    with files.atomic_write(folder / features.BACKBONE_FILE) as partial:
        networks.float32_copy(extractor).save(partial)
    features.finish(folder, fingerprint, facts, stopwatch)
    console.info(f"{facts['columns']:,} features per photo ({stopwatch})")


def describe(extractor):
    """Return how many features a network computes, and of which kind, for features.finish."""
    from pyimagesearch import networks

    last_map = extractor.get_layer(networks.FEATURES)
    return {
        "columns": extractor.output_shape[-1],
        "columns_of_last_map": last_map.output.shape[-1],
        "channels": last_map.input.shape[-1],
    }


if __name__ == "__main__":
    console.run(main)
