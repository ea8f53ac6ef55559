"""Open a page on this machine to drop photos on, and see what a trained classifier says of them.

    python tools/try_it.py --recipe sample

The page answers only to this machine (127.0.0.1). Ctrl-C ends it.
"""

import base64
import html
import io
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A script in tools/ finds the project that it belongs to.
sys.path.insert(0, str(ROOT))

from pyimagesearch import console  # noqa: E402
from pyimagesearch.recipe import METHODS  # noqa: E402

HOST = "127.0.0.1"
LARGEST_FILE = 100_000_000  # bytes
CLASSES_SHOWN = 10
SHOWN_SIDE = 800  # pixels at the most


def main(argv=None):
    parser = console.parser(__doc__.splitlines()[0])
    parser.add_argument("--method", choices=METHODS, help="which of a recipe's classifiers")
    parser.add_argument("--port", type=int, default=8080, help="of the page (8080)")
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    arguments = parser.parse_args(argv)
    console.require("nicegui", "tools/try_it.py")

    from pyimagesearch import artifacts, config

    recipe = console.find_recipe(arguments.recipe)
    folder = artifacts.find(config.OUTPUT_DIR, recipe, arguments.method)
    refuse_taken(arguments.port)
    console.load_tensorflow()
    classifier = artifacts.load(folder)
    open_page(folder, classifier, arguments.port, show=not arguments.no_browser)


def refuse_taken(port):
    """Say at once that another program has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as failure:
            raise console.UserError(
                f"port {port} cannot be used ({failure}). Choose another with --port"
            ) from failure


def open_page(folder, classifier, port, show):
    """Serve the page until Ctrl-C."""
    from nicegui import run, ui

    from pyimagesearch import explanation

    heat_of = explanation.heat_of(classifier.network)

    @ui.page("/")
    def page():
        ui.colors(primary="#0072B2")

        async def answer(event):
            data = await event.file.read()
            waiting.set_visibility(True)
            try:
                result = await run.io_bound(look_at, classifier, heat_of, data)
            finally:
                waiting.set_visibility(False)
                upload.reset()
            answers.clear()
            with answers:
                if isinstance(result, str):
                    ui.label(f"{event.file.name} {result}").classes("text-negative")
                else:
                    show_answer(event.file.name, *result)

        with ui.column().classes("w-full max-w-4xl mx-auto p-4 gap-4"):
            ui.label(f"{folder.parent.name}: {folder.name.replace('_', ' ')}").classes("text-h5")
            ui.label(f"It knows: {', '.join(classifier.classes)}").classes("text-grey-8")
            upload = ui.upload(
                label="Drop a photo here, or choose one with +",
                on_upload=answer,
                on_rejected=lambda: ui.notify(
                    f"not taken: no picture, or larger than {LARGEST_FILE // 1_000_000} MB"
                ),
                max_file_size=LARGEST_FILE,
                auto_upload=True,
            ).classes("w-full")
            upload.props('accept="image/*" flat bordered')
            waiting = ui.spinner(size="lg")
            waiting.set_visibility(False)
            answers = ui.column().classes("w-full gap-4")

    def show_answer(name, best, photo, explained):
        ui.label(f"{name}: {best[0][0]}").classes("text-h6")
        for label, share in best:
            with ui.row().classes("w-full items-center no-wrap gap-3"):
                ui.label(label).classes("w-1/3 ellipsis")
                ui.linear_progress(share, show_value=False, size="14px").classes("grow")
                ui.label(f"{share:.2%}").classes("w-20 text-right")
        with ui.row().classes("w-full gap-4"):
            for picture, caption in (
                (photo, "the photo"),
                (explained, f"what speaks for {best[0][0]}: yellow most"),
            ):
                with ui.column().classes("grow basis-64 gap-1"):
                    ui.html(
                        f'<img src="{picture}" alt="{html.escape(caption)}" style="width:100%">',
                        sanitize=False,
                    )
                    ui.label(caption).classes("text-grey-8")

    console.info(f"http://{HOST}:{port} shows {folder}; Ctrl-C ends it")
    ui.run(
        host=HOST,
        port=port,
        title=f"{folder.parent.name}: try it",
        reload=False,
        show=show,
        show_welcome_message=False,
    )


def look_at(classifier, heat_of, data):
    """Return ([(class, probability)], photo, photo under its heat), or in words why it cannot.

    Args:
        classifier: an artifacts.Classifier.
        heat_of: of explanation.heat_of.
        data: the bytes of a file.
    """
    from pyimagesearch import annotation, images

    try:
        photo = images.read_rgb(data, images.enough_for(classifier.image_size))
    except images.BrokenPhoto as broken:
        return f"cannot be read as a photo: {broken}"
    pixels = images.resize(photo, classifier.image_size)[None]
    probabilities = classifier.probabilities(pixels)[0]
    heat = heat_of(pixels, [int(probabilities.argmax())])[0]
    pictures = (photo, annotation.covered(photo, heat))
    return classifier.likeliest(probabilities, CLASSES_SHOWN), *map(as_address, pictures)


def as_address(picture):
    """Return a uint8 RGB picture as an address that holds a smaller copy of it."""
    from PIL import Image

    copy, data = Image.fromarray(picture), io.BytesIO()
    copy.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    copy.save(data, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


if __name__ == "__main__":
    console.run(main)
