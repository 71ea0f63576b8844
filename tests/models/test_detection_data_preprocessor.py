# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Clips of several sizes in one batch."""
import pytest
import torch
from mmaction.structures import ActionDataSample
from torch.testing import assert_close

from mmaction_tokenreduce.models import DetectionDataPreprocessor

MEAN, STD = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]


def make(**kwargs):
    return DetectionDataPreprocessor(**{**dict(mean=MEAN, std=STD), **kwargs})


def test_normalised_first_then_padded_in_height_and_width():
    clips = [torch.randint(0, 256, (3, 4, *size), dtype=torch.uint8)
             for size in ((40, 70), (64, 33))]
    samples = [ActionDataSample() for _ in clips]
    got = make()(dict(inputs=clips, data_samples=samples), training=True)
    assert got['inputs'].shape == (2, 3, 4, 64, 96)
    for b, (clip, (h, w)) in enumerate(zip(clips, ((40, 70), (64, 33)), strict=True)):
        for c in range(3):
            want = (clip[c].double() - MEAN[c]) / STD[c]
            assert_close(got['inputs'][b, c, :, :h, :w].double(), want, rtol=1e-5,
                         atol=1e-5)
        rest = got['inputs'][b].clone()
        rest[..., :h, :w] = 0
        assert not rest.any()
        sample = got['data_samples'][b]
        assert sample.img_shape == (h, w)
        assert sample.batch_input_shape == (64, 96)


def test_channels_are_reversed_before_they_are_normalised():
    clip = torch.randint(0, 256, (3, 2, 32, 32), dtype=torch.uint8)
    got = make(to_rgb=True)(dict(inputs=[clip]))['inputs'][0]
    assert_close(got[0], (clip[2].float() - 100) / 50)


def test_sizes_that_fit_are_not_padded():
    clips = [torch.zeros(3, 2, 64, 32, dtype=torch.uint8)] * 2
    assert make()(dict(inputs=clips))['inputs'].shape == (2, 3, 2, 64, 32)
    assert make(pad_divisor=48)(dict(inputs=clips))['inputs'].shape[3:] == (96, 48)


@pytest.mark.parametrize('clips,message', [
    ([torch.zeros(1, 3, 4, 32, 32)], r'\(3, T, H, W\), got \(1, 3, 4, 32, 32\)'),
    ([torch.zeros(3, 4, 32, 32), torch.zeros(3, 5, 32, 32)],
     r'equally many frames, got \[4, 5\]')])
def test_clips_that_do_not_fit(clips, message):
    with pytest.raises(ValueError, match=message):
        make()(dict(inputs=clips))


@pytest.mark.parametrize('kwargs,message', [
    (dict(std=[1.0, 0.0, 1.0]), 'std above 0'),
    (dict(mean=[1.0]), 'three numbers each'),
    (dict(pad_divisor=0), 'pad_divisor=0: must be a whole number')])
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
