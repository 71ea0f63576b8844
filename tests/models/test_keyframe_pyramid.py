# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The pyramid by hand."""
import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.models import KeyframePyramid


def test_places_are_repeated_or_left_out():
    image = torch.arange(8.0).view(1, 1, 2, 4)
    levels = KeyframePyramid()([image, image, image, image])
    assert [tuple(level.shape[2:]) for level in levels] == [(8, 16), (4, 8), (2, 4),
                                                            (1, 2)]
    assert_close(levels[0], image.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert_close(levels[1], image.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert_close(levels[2], image)
    assert_close(levels[3], image[:, :, ::2, ::2])


def test_maps_are_contiguous():
    tokens = torch.randn(2, 6, 5).transpose(1, 2).unflatten(2, (2, 3))
    assert not tokens.is_contiguous()
    for level in KeyframePyramid((2, 1))([tokens, tokens]):
        assert level.is_contiguous()


@pytest.mark.parametrize('scales', [(), (2, 0), (1, 'half')])
def test_bad_scales(scales):
    with pytest.raises(ValueError, match='must be positive numbers, one a map'):
        KeyframePyramid(scales)
