"""Download the photos of a recipe and unpack them into its source, for build_dataset.py.

    python tools/get_dataset.py --recipe food11
    python tools/get_dataset.py --recipe cats_vs_dogs --archive dogs-vs-cats.zip

The recipe's `download` says which archive. If the connection breaks, run the same command again: it
resumes. The archive is deleted once its photos are in `source`. With --archive, a file that you
have downloaded yourself is unpacked instead, and kept.
"""

import sys
from pathlib import Path

# Scripts in tools/ import the package of the project that they belong to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch.recipe import Download, find_recipe
from pyimagesearch.support import console


def main(argv=None):
    parser = console.argument_parser(__doc__)
    parser.add_argument("--archive", metavar="PATH", type=Path, help="a file that you have already")
    arguments = parser.parse_args(argv)

    from pyimagesearch import config
    from pyimagesearch.support import downloads

    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    source = Path(recipe.source)
    if source.exists():
        console.info(f"{source} already exists. To get its photos again, rename or delete it first")
    else:
        with downloads.workplace(source) as folder:
            archive = arguments.archive or fetch(recipe, folder)
            count = unpack(archive, folder / "photos", source)
        console.info(f"{count:,} files -> {source}")
    console.info(f"next: {console.command('build_dataset', recipe.name)}")


def fetch(recipe, folder):
    """Download the archive of a recipe into a folder. Return its path.

    Raises:
        UserError: the recipe has no Download, it fails, or it is another file than expected.
    """
    from pyimagesearch.support import downloads

    wanted = recipe.download
    if not isinstance(wanted, Download):
        by_hand = f"get its photos with: {wanted}" if wanted else "put its photos there"
        raise console.UserError(
            f"recipe {recipe.name!r} names no archive to download. For {recipe.source}, {by_hand}"
        )
    path = folder / "archive"
    command = console.command("tools/get_dataset", recipe.name, "--archive", "PATH")
    remedy = f"With a file that you downloaded in a browser, run: {command}"
    downloads.fetch(wanted.url, path, wanted.size, wanted.checksum, remedy)
    return path


def unpack(archive, folder, source):
    """Unpack an archive into a folder, and move it to `source`. Return the number of files.

    Raises:
        UserError: it cannot be unpacked.
    """
    from pyimagesearch.support import archives, files

    if not archive.is_file():
        raise console.UserError(f"there is no file {archive}. Check the path after --archive")
    console.info("unpacking the archive")
    remedy = f"To download it again, delete {archive} and run the same command"
    count = archives.unpack(archive, folder, remedy)
    files.replace(folder, source)
    return count


if __name__ == "__main__":
    console.run(main)
