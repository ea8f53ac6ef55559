"""What the HTML pages share: the templates, and pictures inside the page."""

import base64
import io
from pathlib import Path

import jinja2
from PIL import Image

WEBP_QUALITY = 80  # of 100, for photos
THUMBNAIL = 240  # pixels


def render(template, **values):
    """Return the HTML of a template in this folder, with these values."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.globals["thumbnail"] = thumbnail
    return environment.get_template(template).render(values)


def percent(share, digits=1):
    """Return a share as text: 73.8 %, on one line."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def thumbnail(pixels):
    """Return a uint8 RGB array as a data URL of a small picture."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return data_url(picture)


def data_url(picture, **options):
    """Return a Pillow image as a data URL of WebP: photos take a tenth of the bytes of a PNG."""
    webp = io.BytesIO()
    picture.save(webp, "WEBP", quality=WEBP_QUALITY, **options)
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode()}"
