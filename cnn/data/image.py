"""One image of a person's own, of any kind and size, as a tensor."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnn.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")


def load_image(path: str | Path, colour: bool = False) -> Tensor:
    """The picture as (1, 1, H, W) gray, or (1, 3, H, W) RGB, in float32 from 0 black to 1 white.

    Turned upright by its EXIF tag; transparency is laid on white; palettes and 16-bit grays keep their values; of an
    animation the first frame. FileNotFoundError for a missing file; UserError for one that is no image, is cut off or
    would unpack to more pixels than Pillow thinks safe.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as file:
                values = pixels(file, colour)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UserError(f"{path}: refused as a decompression bomb ({error})") from error
        except Image.UnidentifiedImageError as error:
            raise UserError(f"{path}: not an image that Pillow can read; save it as PNG or JPEG") from error
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            raise
        except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
            raise UserError(f"{path}: damaged image ({error})") from error
    return torch.from_numpy(values)[None]


def pixels(file: Any, colour: bool) -> Any:
    """An opened Pillow image as a float32 array (1 or 3, H, W) in 0..1."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):
        # Pillow's own conversion to 8 bits cuts values off at 255 instead of scaling them.
        gray = np.asarray(image, dtype=np.float32) / 65535
        return np.repeat(gray[None].clip(0, 1), 3 if colour else 1, axis=0)
    if image.mode == "F":
        gray = np.asarray(image, dtype=np.float32)
        return np.repeat((gray / max(float(gray.max()), 1.0))[None].clip(0, 1), 3 if colour else 1, axis=0)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if colour else "L")
    values = np.asarray(image, dtype=np.float32) / 255
    return np.ascontiguousarray(values.transpose(2, 0, 1)) if colour else values[None]
