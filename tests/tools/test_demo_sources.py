# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/demo.py on a camera that is none, and on files cut, damaged or turned."""
import importlib
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from tiny_demo import MOTION, WINDOW, config, detector, frames_of, run, write_video


class Camera:
    """Takes the place of cv2.VideoCapture and of the clock that frames are timed by."""
    opened, frames, step, stop_at = True, 60, 0.1, None

    def __init__(self, index):
        self.index, self.count = index, 0
        type(self).last = self

    def monotonic(self):
        return 5 + self.last.count * self.step

    def isOpened(self):
        return self.opened

    def get(self, what):
        return 20.

    def read(self):
        self.count += 1
        if self.count == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        image = np.full((32, 48, 3), (self.count, 0, 200), np.uint8)  # BGR
        return (True, image) if self.count <= self.frames else (False, None)

    def release(self):
        self.released = True


@pytest.fixture
def camera(demo, monkeypatch):
    source = importlib.import_module('_video_source')

    class Fake(Camera):
        pass

    monkeypatch.setattr(source.cv2, 'VideoCapture', Fake)
    monkeypatch.setattr(source.time, 'monotonic', lambda: Fake.monotonic(Fake))
    return Fake


def test_a_camera_plays_in_real_time(demo, camera, capsys):
    config()
    got, images = run(demo, '--seconds', '4', '--scale', '1', '--no-tokens', video='0')
    # a frame each 0.1 s, of which 39 came within 4 s; the file has 20 a second
    assert got['frames'] == 39 and len(images) == 2 * 39 + 1
    assert camera.last.index == 0 and camera.last.released
    red = images[:, :32].reshape(len(images), -1, 3).mean(1)
    assert red[:, 0].min() > 150 and red[:, 2].max() < 100  # not blue
    assert 'note' not in capsys.readouterr().err


def test_ctrl_c_keeps_what_came(demo, camera, capsys):
    config()
    camera.stop_at, before = 30, signal.getsignal(signal.SIGINT)
    got, images = run(demo, video='1')
    assert got['frames'] == 30 and len(images) == 61
    assert [w['first_frame'] for w in got['windows']] == [0, 15]
    assert 'note: camera 1: stopped after 30 frames' in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_motion_of_a_camera_is_refused_or_flows(demo, camera, capfd):
    config(MOTION, fields='stream')
    with pytest.raises(SystemExit):
        run(demo, video='0')
    assert re.search("a compressed stream, which a camera does not give: use a video "
                     "file, or a config with fields='optical_flow'",
                     capfd.readouterr().err)
    assert not Path('out.mp4').exists() and not Path('out.json').exists()
    config(MOTION, fields='optical_flow')
    assert len(run(demo, '--seconds', '2', video='0')[0]['windows']) == 2


def test_files_that_are_cut_give_what_they_have(demo, capsys):
    write_video('whole.mp4', frames=120, options=dict(movflags='+faststart'))
    data = Path('whole.mp4').read_bytes()
    Path('cut.mp4').write_bytes(data[:len(data) * 2 // 3])
    config()
    got, images = run(demo, video='cut.mp4')
    assert 40 < got['frames'] < 119 and len(images) == got['frames']
    assert re.search(r'note: cut.mp4: the file ends early, after \d+ of 120 frames',
                     capsys.readouterr().err)


def test_damage_in_the_middle_is_passed_over(demo, capsys):
    write_video('clip.mp4', frames=60, g='1')
    data = bytearray(Path('clip.mp4').read_bytes())
    at = data.find(b'mdat') + len(data) // 3
    data[at:at + 3000] = bytes(3000)
    Path('clip.mp4').write_bytes(data)
    config()
    got, images = run(demo)
    assert 30 < got['frames'] <= 60 and len(images) == got['frames']
    assert re.search(r'of its 60 packets are damaged', capsys.readouterr().err)


def test_turned_videos_are_set_upright(demo):
    data = bytearray(Path('clip.mp4').read_bytes())
    matrix = data.find(b'tkhd') + 44
    turn = np.array([0, 1, 0, -1, 0, 0, 0, 0, 16384], dtype='>i4') * 65536
    data[matrix:matrix + 36] = turn.astype('>i4').tobytes()  # 90 degrees clockwise
    Path('turned.mp4').write_bytes(data)
    detector()
    images = run(demo, '--person-thr', '1', video='turned.mp4')[1]
    original = frames_of('clip.mp4')[0]
    assert images.shape == (40, 48, 32, 3)
    clockwise = np.rot90(original, -1, axes=(1, 2)).astype(int)
    assert np.abs(images - clockwise).mean() < 5


def test_frames_of_other_sizes_are_scaled_to_the_first(demo, capsys):
    for number, height in enumerate((32, 64)):
        write_video(f'{number}.h264', frames=20, height=height)
    Path('both.h264').write_bytes(Path('0.h264').read_bytes()
                                  + Path('1.h264').read_bytes())
    config()
    got, images = run(demo, '--scale', '1', video='both.h264')
    assert got['frames'] == 40 and images.shape[2] == 48
    assert 'other size than the first were scaled to 48x32' in capsys.readouterr().err


def test_frames_held_do_not_grow_with_the_video(demo, capsys):
    config()
    held = []
    for frames in (60, 160):
        write_video('clip.mp4', frames=frames)
        assert run(demo, '--stride', '20', '--batch', '2')[0]['frames'] == frames
        held += re.findall(r'at most (\d+) frames were held', capsys.readouterr().out)
    assert held[0] == held[1] and int(held[0]) <= WINDOW + 1 + 20
