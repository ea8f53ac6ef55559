"""Try a trained classifier in the browser: drop photos on a page and see what it predicts.

    python tools/try_it.py --recipe sample

The page can be reached from this machine only (127.0.0.1). Ctrl-C stops it.
"""

import base64
import html
import io
import socket
import sys
from functools import partial
from pathlib import Path

# Scripts in tools/ import the package of the project that they belong to.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch.recipe import METHODS, find_recipe
from pyimagesearch.support import console

HOST = "127.0.0.1"
LARGEST_FILE = 100  # MB
CLASSES_SHOWN = 10  # the most likely ones
LONGER_SIDE = 800  # of the pictures on the page, in pixels


def main(argv=None):
    parser = console.argument_parser(__doc__)
    parser.add_argument("--method", choices=METHODS, help="which of the recipe's classifiers")
    parser.add_argument("--port", type=int, default=8080, help="port of the page (default: 8080)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    arguments = parser.parse_args(argv)
    console.require_package("nicegui", "tools/try_it.py")

    from pyimagesearch import classifier, config

    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    folder = classifier.find(config.OUTPUT_DIR, recipe, arguments.method)
    check_port(arguments.port)
    serve(folder, classifier.load(folder), arguments.port, show=not arguments.no_browser)


def check_port(port):
    """Refuse a port that cannot be used, before TensorFlow is imported, which takes seconds.

    Raises:
        UserError: another program uses the port, or it is not a port number.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as failure:
            raise console.UserError(
                f"port {port} cannot be used ({failure}). Choose another port with --port"
            ) from failure


def serve(folder, classifier, port, show):
    """Serve the page until Ctrl-C.

    Args:
        folder: the classifier's folder, output/<recipe>/<method>.
        classifier: a classifier.Classifier.
        port: a free port of this machine.
        show: open the page in a browser.
    """
    from nicegui import ui

    from pyimagesearch.report import heatmaps

    heatmap_function = heatmaps.heatmap_function(classifier.network)
    recipe, method = folder.parent.name, folder.name.replace("_", " ")
    ui.page("/")(partial(build_page, f"{recipe}: {method}", classifier, heatmap_function))
    console.info(f"{folder} is at http://{HOST}:{port}. Stop with Ctrl-C")
    ui.run(
        host=HOST,
        port=port,
        title=f"{recipe}: try it",
        reload=False,
        show=show,
        show_welcome_message=False,
    )


def build_page(heading, classifier, heatmap_function):
    """Lay out the page: a place to drop photos, and the prediction for the last one."""
    from nicegui import ui

    async def predict_upload(event):
        spinner.set_visibility(True)
        try:
            await show_prediction(prediction, classifier, heatmap_function, event.file)
        finally:
            spinner.set_visibility(False)
            upload.reset()

    ui.colors(primary="#0072B2")
    with ui.column().classes("w-full max-w-4xl mx-auto p-4 gap-4"):
        ui.label(heading).classes("text-h5")
        ui.label(f"Classes: {', '.join(classifier.classes)}").classes("text-grey-8")
        upload = ui.upload(
            label="Drop a photo here, or choose one with +",
            on_upload=predict_upload,
            on_rejected=lambda: ui.notify(
                f"The file is not an image, or it is larger than {LARGEST_FILE} MB"
            ),
            max_file_size=LARGEST_FILE * 1_000_000,
            auto_upload=True,
        ).classes("w-full")
        upload.props('accept="image/*" flat bordered')
        spinner = ui.spinner(size="lg")
        spinner.set_visibility(False)
        prediction = ui.column().classes("w-full gap-4")


async def show_prediction(column, classifier, heatmap_function, file):
    """Replace the contents of a column of the page by the prediction for an uploaded file."""
    from nicegui import run, ui

    from pyimagesearch import images

    data = await file.read()
    try:
        # In a thread: the page stays responsive meanwhile.
        result = await run.io_bound(predict, classifier, heatmap_function, data)
    except images.BrokenPhoto as broken:
        column.clear()
        with column:
            ui.label(f"{file.name} cannot be read as a photo: {broken}").classes("text-negative")
        return
    column.clear()
    with column:
        show_result(file.name, *result)


def show_result(name, top_classes, unlike, photo, heatmap):
    """Show a bar for each class, and the photo beside its heat map.

    Args:
        name: of the file.
        top_classes: [(class name, probability)], the most likely class first.
        unlike: True if the photo is unlike any training photo.
        photo, heatmap: data URLs.
    """
    from nicegui import ui

    from pyimagesearch.report import answers

    best = top_classes[0][0]
    ui.label(f"{name}: {best}").classes("text-h6")
    if unlike:
        warning = f"This photo is {answers.UNLIKE}: do not rely on its class"
        ui.label(warning).classes("text-negative")
    for class_name, probability in top_classes:
        with ui.row().classes("w-full items-center no-wrap gap-3"):
            ui.label(class_name).classes("w-1/3 ellipsis")
            ui.linear_progress(probability, show_value=False, size="14px").classes("grow")
            ui.label(f"{answers.percentage(probability)}").classes("w-20 text-right")
    with ui.row().classes("w-full gap-4"):
        show_picture(photo, "The photo")
        show_picture(heatmap, f"Yellow areas raise the score of {best} most")


def show_picture(url, caption):
    """Show a picture with its caption."""
    from nicegui import ui

    with ui.column().classes("grow basis-64 gap-1"):
        # The only part of the HTML that is not fixed is the caption, and it is escaped.
        ui.html(
            f'<img src="{url}" alt="{html.escape(caption)}" style="width:100%">', sanitize=False
        )
        ui.label(caption).classes("text-grey-8")


def predict(classifier, heatmap_function, data):
    """Return ([(class name, probability)], unlike, photo, photo with heat map) for `show_result`.

    Args:
        classifier: a classifier.Classifier.
        heatmap_function: from heatmaps.heatmap_function.
        data: the bytes of an image file.

    Raises:
        BrokenPhoto: the bytes cannot be decoded.
    """
    from pyimagesearch import images
    from pyimagesearch.report import annotation

    photo = images.read_rgb(data, images.decode_size(classifier.image_size))
    pixels = images.resize(photo, classifier.image_size)[None]
    (probabilities,), (unlike,) = classifier.predict_and_compare(pixels)
    heat = heatmap_function(pixels, [int(probabilities.argmax())])[0]
    top_classes = classifier.top(probabilities, CLASSES_SHOWN)
    return top_classes, unlike, data_url(photo), data_url(annotation.overlay_heat(photo, heat))


def data_url(picture):
    """Return a data URL with a smaller copy of a uint8 RGB picture."""
    from PIL import Image

    copy, data = Image.fromarray(picture), io.BytesIO()
    copy.thumbnail((LONGER_SIDE, LONGER_SIDE))
    copy.save(data, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


if __name__ == "__main__":
    console.run(main)
