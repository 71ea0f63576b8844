# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Lines of text on a strip below the frames of a video, for tools/demo.py."""
from functools import cache

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

GROUND, BAR, INK = (24, 24, 24), (0, 96, 48), (255, 255, 255)
LETTERS = 44  # of the font that fit into a line
SMALLEST, LARGEST = 11, 28  # px


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont('DejaVu Sans'), size)


class Panel:
    """A strip with lines of text, each over a bar that may be given.

    Args:
        width: In px.
        lines: How many lines it has.
    """

    def __init__(self, width: int, lines: int) -> None:
        # the letters of DejaVu Sans are about 0.55 of its size wide
        size = int(min(max(width / LETTERS / 0.55, SMALLEST), LARGEST))
        self._font, self._height = _font(size), round(1.45 * size)
        self._image = Image.new('RGB', (width, lines * self._height), GROUND)
        self._draw, self._top = ImageDraw.Draw(self._image), 0

    def write(self, text: str, share: float = 0.) -> None:
        """Write the next line, cut where the strip ends.

        Args:
            text: It.
            share: How far the bar behind it goes, 0 to 1.
        """
        width, bottom = self._image.width, self._top + self._height - 2
        if share > 0:
            self._draw.rectangle((0, self._top + 1, max(share * width - 1, 0), bottom),
                                 fill=BAR)
        room = width - self._height // 2
        if self._font.getlength(text) > room:
            while text and self._font.getlength(text + '…') > room:
                text = text[:-1]
            text += '…'
        self._draw.text((self._height // 4, self._top + self._height // 2), text,
                        fill=INK, font=self._font, anchor='lm')
        self._top += self._height

    @property
    def image(self) -> np.ndarray:
        """(h, w, 3) uint8."""
        return np.asarray(self._image)
