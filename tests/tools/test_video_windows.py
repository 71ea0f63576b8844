# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/_video_windows.py: which windows there are, and what is held of the video."""
import importlib
import random
import weakref

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS


@pytest.fixture
def windows(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    return importlib.import_module('_video_windows')


class Frame:
    """A frame that can be counted."""

    def __init__(self, number):
        self.number = number


def sampling_of(windows, detects, clip_len, interval):
    kind = 'SampleKeyframeClip' if detects else 'SampleFrames'
    sampler = TRANSFORMS.build(dict(type=f'mmaction.{kind}', clip_len=clip_len,
                                    frame_interval=interval))
    return windows.KeyframeSampling(sampler) if detects else (
        windows.ClipSampling(sampler, None, 25., 'a.py'))


def play(windows, sampling, frames, stride, batch):
    """The windows that were asked about, in order, each frame's window, and the most
    frames that were there at once."""
    asked, shown, alive, most = [], [], weakref.WeakSet(), 0

    def ask(some):
        assert len(some) <= batch
        for window in some:
            numbers = [frame.number for frame in window.frames]
            assert numbers == window.inds.tolist() and window.last < frames
            asked.append((window.anchor, numbers))
        return [window.anchor for window in some]

    stream = windows.WindowStream(
        sampling, stride, batch, ask,
        lambda frame, window, answer: shown.append((frame.number, window.anchor,
                                                    answer)))
    for number in range(frames):
        frame = Frame(number)
        alive.add(frame)
        stream.feed(frame)
        most = max(most, len(alive))
    stream.finish()
    assert [number for number, _, _ in shown] == list(range(frames))
    assert all(anchor == answer for _, anchor, answer in shown)
    return asked, [anchor for _, anchor, _ in shown], most


def test_windows_of_recognition(windows):
    for seed in range(150):
        draw = random.Random(seed).randint
        clip_len, interval, frames = draw(1, 6), draw(1, 4), draw(1, 60)
        stride, batch = draw(1, 30), draw(1, 4)
        sampling = sampling_of(windows, False, clip_len, interval)
        length = (clip_len - 1) * interval + 1
        asked, shown, _ = play(windows, sampling, frames, stride, batch)
        anchors = [a for a in range(0, frames, stride) if a + length <= frames] or [0]
        covered, ends = len(anchors) * stride, anchors[-1] + length
        if covered < frames and ends < frames:  # one more, which ends with the video
            anchors.append(frames - length)
        assert [anchor for anchor, _ in asked] == anchors
        for anchor, numbers in asked:
            assert numbers == [anchor + i * interval % frames for i in range(clip_len)]
        # each frame belongs to the last window that began by then, those that no
        # regular window is left for to the closing one
        regular = [min(n // stride * stride, (len(anchors) - 1) * stride)
                   for n in range(frames)]
        assert shown == [anchors[a // stride] for a in regular]


def test_windows_of_detection(windows):
    for seed in range(150):
        draw = random.Random(seed).randint
        clip_len, interval, frames = draw(1, 6), draw(1, 4), draw(1, 60)
        stride, batch = draw(1, 30), draw(1, 4)
        sampling = sampling_of(windows, True, clip_len, interval)
        asked, shown, _ = play(windows, sampling, frames, stride, batch)
        steps = (np.arange(clip_len) - clip_len // 2) * interval
        assert asked == [(key, (key + steps).clip(0, frames - 1).tolist())
                         for key in range(0, frames, stride)]
        assert shown == [n // stride * stride for n in range(frames)]


@pytest.mark.parametrize('detects', [False, True])
@pytest.mark.parametrize('stride, batch', [(4, 1), (4, 3), (15, 2), (50, 1)])
def test_what_is_held_does_not_depend_on_the_length(windows, detects, stride, batch):
    sampling = sampling_of(windows, detects, 8, 2)
    most = [play(windows, sampling, frames, stride, batch)[2]
            for frames in (300, 1200)]
    # the frames of the last answer are still there, besides those that are held
    assert most[0] == most[1] <= sampling.length + 1 + (batch - 1) * stride + 8


@pytest.mark.parametrize('inds, key, numbers, expected', [
    ([0, 2, 4, 6], 0, [0, 1, 2, 5, 6, 7], [0, 0, 1, 2, 3, None]),
    ([3, 5, 7, 9], 0, [1, 3, 4], [0, 0, 0]),  # of UniformSample: the first one is late
    ([0, 0, 0, 2], 2, [0, 1, 2], [2, 2, 3]),  # a keyframe at the very beginning
    ([5, 7, 9, 9], 2, [9], [2]),  # and at the very end
])
def test_which_sampled_frame_stands_for_a_frame(windows, inds, key, numbers, expected):
    window = windows.Window(0, max(max(inds), 6), 0, np.array(inds), [], key)
    assert [window.sampled(number) for number in numbers] == expected
