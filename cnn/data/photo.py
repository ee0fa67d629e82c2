"""The photo that is always at hand: the portrait that matplotlib ships."""

from __future__ import annotations

from cnn.errors import UserError


def photo_path() -> str:
    """The path of Grace Hopper's portrait, 600 x 512 pixels; UserError where matplotlib came without it."""
    from matplotlib.cbook import get_sample_data

    try:
        return str(get_sample_data("grace_hopper.jpg", asfileobj=False))
    except (OSError, ValueError) as error:
        raise UserError(f"matplotlib's sample photo is missing ({error}); name an IMAGE of your own") from error
