# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Fixed positions against their formula and mmaction2's own."""
import math

import torch
from mmaction.models.backbones.vit_mae import get_sinusoid_encoding
from torch.testing import assert_close

from mmaction_tokenreduce.ops.positions import resize_positions, sine_cosine_positions


def test_equals_the_formula():
    got = sine_cosine_positions(5, 6)
    for place in range(5):
        for channel in range(6):
            angle = place / 10000**(2 * (channel // 2) / 6)
            want = math.cos(angle) if channel % 2 else math.sin(angle)
            assert abs(got[place, channel].item() - want) < 1e-6


def test_equals_those_of_videomae():
    assert_close(sine_cosine_positions(1568, 384), get_sinusoid_encoding(1568, 384)[0],
                 rtol=1e-4, atol=1e-5)


def test_frames_are_resized_each_by_itself():
    table = torch.randn(2 * 3 * 4, 5)
    assert resize_positions(table, (2, 3, 4), (2, 3, 4)) is table
    got = resize_positions(table, (2, 3, 4), (2, 6, 5))
    for frame in range(2):
        image = table.view(2, 3, 4, 5)[frame].permute(2, 0, 1).unsqueeze(0)
        want = torch.nn.functional.interpolate(image, (6, 5), mode='bicubic',
                                               align_corners=False)
        assert_close(got.view(2, 6, 5, 5)[frame], want[0].permute(1, 2, 0))
