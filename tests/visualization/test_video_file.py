# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures as a video file."""
import av
import numpy as np
import pytest

from mmaction_tokenreduce.visualization import VideoFile

RED, BLUE = (220, 30, 30), (20, 40, 200)


def image(height, width, color):
    return np.full((height, width, 3), color, np.uint8)


def read(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        form = stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)
        return form, [frame.to_ndarray(format='rgb24')
                      for frame in container.decode(video=0)]


@pytest.mark.parametrize('size, even', [((48, 64), (48, 64)), ((47, 61), (48, 62)),
                                        ((1, 33), (2, 34))])
def test_video_holds_what_was_written(tmp_path, size, even):
    path = tmp_path / 'folder' / 'clip.mp4'
    path.parent.mkdir()
    path.write_text('an older file')
    with VideoFile(path, 12.5, size) as video:
        for color in (RED, BLUE, RED):
            video.write(image(*size, color))
        assert path.read_text() == 'an older file'  # until the new one is whole
        assert video.num_written == 3
    form, frames = read(path)
    assert form == ('h264', 'yuv420p', 12.5) and len(frames) == 3
    for frame, color in zip(frames, (RED, BLUE, RED), strict=True):
        assert frame.shape == (*even, 3)
        assert np.abs(frame.astype(int) - color).max() <= 6
    assert list(path.parent.iterdir()) == [path]
    data = path.read_bytes()
    assert data.find(b'moov') < data.find(b'mdat')  # plays before all is there


def test_rate_of_ntsc_is_kept(tmp_path):
    with VideoFile(tmp_path / 'clip.mp4', 29.97002997, (16, 16)) as video:
        video.write(image(16, 16, RED))
    with av.open(str(tmp_path / 'clip.mp4')) as container:
        assert str(container.streams.video[0].average_rate) == '30000/1001'


def test_nothing_is_left_of_a_video_that_failed(tmp_path):
    path = tmp_path / 'clip.mp4'
    with pytest.raises(KeyError, match='mine'), VideoFile(path, 8, (16, 16)) as video:
        video.write(image(16, 16, RED))
        raise KeyError('mine')
    with pytest.raises(ValueError, match=r'frame 0 must be \(16, 16, 3\) uint8, got '
                       r'\(16, 18, 3\)'), VideoFile(path, 8, (16, 16)) as video:
        video.write(image(16, 18, RED))
    with pytest.raises(ValueError, match='no frame was written'):
        with VideoFile(path, 8, (16, 16)):
            pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('path, fps, size, words', [
    ('clip.avi', 8, (16, 16), r'clip\.avi: the video is an \.mp4'),
    ('clip.mp4', 0, (16, 16), 'fps=0: must be above 0'),
    ('clip.mp4', float('nan'), (16, 16), 'fps=nan'),
    ('clip.mp4', 8, (0, 16), r'size=\(0, 16\): must be height and width'),
])
def test_other_settings_are_refused(path, fps, size, words):
    with pytest.raises(ValueError, match=words):
        VideoFile(path, fps, size)
