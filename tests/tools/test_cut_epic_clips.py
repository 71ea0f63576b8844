# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/data/cut_epic_clips.py: the right frames, one reference, whole files."""
import importlib.util
import os
import sys

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from forked import run_script

from mmaction_tokenreduce.datasets.transcode import TranscodeConfig

FPS = 25
LENGTH = 100  # frames of a source video
HEADER = 'narration_id,video_id,start_timestamp,stop_timestamp\n'


@pytest.fixture(scope='module')
def tool(repo_dir):
    path = repo_dir / 'tools/data/cut_epic_clips.py'
    spec = importlib.util.spec_from_file_location('cut_epic_clips', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # worker processes find its functions by name
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def write_video(path, start=0.0, size=(48, 64)):
    """Frame n shows n as 8 black and white stripes; B-frames, 4 references, GOP 30."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=FPS, options=dict(
            bf='3', refs='4', g='30', crf='10'))
        stream.height, stream.width = size
        stream.pix_fmt = 'yuv420p'
        for number in range(LENGTH):
            bits = number >> np.arange(8)[:, None, None] & 1
            image = np.tile(255 * bits.repeat(size[1] // 8, 0).astype(np.uint8)
                            .reshape(1, -1, 1), (size[0], 1, 3))
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            frame.pts = number + round(start * FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('epic')
    write_video(folder / 'P01/videos/P01_01.MP4')
    write_video(folder / 'P02/P02_101.mp4', start=2.0)
    (folder / 'P03.MP4').write_bytes(b'not a video ' * 100)
    return folder


def annotations(folder, *rows):
    path = folder / 'ann.csv'
    path.write_text(HEADER + ''.join(f'{row}\n' for row in rows))
    return str(path)


def shown(path):
    """Numbers of the source's frames that a clip shows, and its frames' times."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    stripes = [np.array_split(frame.to_ndarray(format='gray').mean(0), 8)
               for frame in frames]
    numbers = [sum((stripe.mean() > 127) << bit for bit, stripe in enumerate(bits))
               for bits in stripes]
    return numbers, [frame.time for frame in frames]


@pytest.mark.parametrize('start,stop,first,last', [
    (0.0, 0.4, 0, 9), (0.14, 0.17, 4, 4), (1.16, 1.2, 29, 29), (1.2, 2.4, 30, 59),
    (2.99, 3.37, 75, 84), (3.6, 9.0, 90, 99), (0.0, 4.0, 0, 99)])
@pytest.mark.parametrize('name', ['P01/videos/P01_01.MP4', 'P02/P02_101.mp4'])
def test_the_frames_of_a_time(tool, videos, tmp_path, name, start, stop, first, last):
    """From start on (frame n is at n / 25 s), without the frame at stop."""
    clip = tmp_path / 'clip.mp4'
    count = tool.cut_clip(videos / name, clip, start, stop,
                          TranscodeConfig(10))
    numbers, times = shown(clip)
    assert numbers == list(range(first, last + 1)) and len(numbers) == count
    assert times == pytest.approx([n / FPS for n in range(count)], abs=1e-3)


def test_how_clips_are_encoded(tool, videos, tmp_path):
    clip = tmp_path / 'clip.mp4'
    tool.cut_clip(videos / 'P01/videos/P01_01.MP4', clip, 0, 2,
                  TranscodeConfig(23, 'ultrafast', 20, 32))
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (32, 42)  # 48 x 64, even sides
        assert stream.codec_context.name == 'h264' and stream.average_rate == FPS
        types = [PictureType(frame.pict_type).name
                 for frame in container.decode(stream)]
    # the source's types (B-frames, an I-frame every 30) are not handed on
    assert ''.join(types) == 'I' + 'P' * 19 + 'I' + 'P' * 19 + 'I' + 'P' * 9
    data = clip.read_bytes()  # x264 writes its settings into the stream
    for setting in (b'ref=1 ', b'bframes=0 ', b'crf=23.0', b'subme=0 ',
                    b'weightp=0 ', b'keyint=20 '):
        assert setting in data


def test_small_frames_are_not_made_larger(tool, videos, tmp_path):
    clip = tmp_path / 'clip.mp4'
    tool.cut_clip(videos / 'P01/videos/P01_01.MP4', clip, 0, 1,
                  TranscodeConfig(short_side=256))
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (48, 64)


def test_the_command(tool, videos, tmp_path, capsys):
    ann = annotations(tmp_path, 'P01_01_0,P01_01,00:00:00.40,00:00:00.80',
                      'P02_101_0,P02_101,00:00:01.00,00:00:02.00',
                      'P01_01_1,P01_01,00:00:00.60,00:00:01.00')
    out = tmp_path / 'out/clips'
    command = [str(videos), str(out), ann, '--workers', '2']
    tool.main(command)
    assert '3 clips cut, 0 were there, 0 failed' in capsys.readouterr().out
    assert shown(out / 'P01_01_0.mp4')[0] == list(range(10, 20))
    assert shown(out / 'P01_01_1.mp4')[0] == list(range(15, 25))
    assert shown(out / 'P02_101_0.mp4')[0] == list(range(25, 50))
    # again: what is whole stays, what is not is cut anew
    kept = (out / 'P01_01_1.mp4').stat()
    (out / 'P02_101_0.mp4').write_bytes((out / 'P02_101_0.mp4').read_bytes()[:500])
    (out / 'P01_01_0.mp4').unlink()
    tool.main(command)
    assert '2 clips cut, 1 were there, 0 failed' in capsys.readouterr().out
    assert (out / 'P01_01_1.mp4').stat().st_mtime_ns == kept.st_mtime_ns
    assert shown(out / 'P02_101_0.mp4')[0] == list(range(25, 50))
    assert sorted(path.name for path in out.iterdir()) == [
        'P01_01_0.mp4', 'P01_01_1.mp4', 'P02_101_0.mp4']


def test_what_cannot_be_cut_is_named_and_the_rest_is_cut(tool, videos, tmp_path):
    ann = annotations(tmp_path, 'P01_01_0,P01_01,00:00:00.40,00:00:00.80',
                      'P01_01_9,P01_01,00:00:04.00,00:00:05.00',
                      'P03_0,P03,00:00:00.00,00:00:05.00',
                      'P09_0,P09,00:00:00.00,00:00:05.00')
    done = run_script(tool.__file__, videos, tmp_path / 'out', ann, '--workers=1')
    assert done.returncode == 1
    assert '1 clips cut, 0 were there, 3 failed' in done.stdout
    assert 'P01_01_9.mp4: video' in done.stderr
    assert 'no frames from 4.00 s to 5.00 s' in done.stderr
    assert f'P03_0.mp4: video {videos / "P03.MP4"}: cannot be read' in done.stderr
    assert 'P09_0.mp4: no video P09.MP4' in done.stderr
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['P01_01_0.mp4']


def test_a_damaged_video_is_named(tool, videos, tmp_path):
    data = bytearray((videos / 'P01/videos/P01_01.MP4').read_bytes())
    start = data.index(b'mdat')
    length = int.from_bytes(data[start - 4:start], 'big')
    data[start + length // 2:start + length - 8] = bytes(length - length // 2 - 8)
    (tmp_path / 'bad.mp4').write_bytes(data)
    with pytest.raises(tool.CutError, match='corrupt after'):
        tool.cut_clip(tmp_path / 'bad.mp4', tmp_path / 'clip.mp4', 0, 4,
                      TranscodeConfig())
    assert not (tmp_path / 'clip.mp4').exists()


def test_a_full_disk_is_no_corrupt_video(tool, videos, tmp_path, monkeypatch):
    def full(part, path):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='No space'):
        tool.cut_clip(videos / 'P01/videos/P01_01.MP4', tmp_path / 'clip.mp4', 0, 1,
                      TranscodeConfig())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('options,words', [
    (['--workers', '0'], 'workers is 0; allowed is at least 1'),
    (['--crf', '52'], 'crf is 52; allowed is 0 to 51'),
    (['--short-side', '-1'], 'short_side is -1; allowed is at least'),
    (['--preset', 'fastest'], "invalid choice: 'fastest'"),
])
def test_options_are_checked(tool, videos, tmp_path, capsys, options, words):
    ann = annotations(tmp_path)
    with pytest.raises(SystemExit) as caught:
        tool.main([str(videos), str(tmp_path / 'out'), ann, *options])
    assert caught.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_folders_are_checked(tool, videos, tmp_path, capsys):
    ann = annotations(tmp_path)
    for folder, words in ((tmp_path / 'none', 'none not found'),
                          (tmp_path / 'twice', 'have the same name')):
        for name in ('a/P01.mp4', 'b/P01.MP4') if folder.name == 'twice' else ():
            (folder / name).parent.mkdir(parents=True)
            (folder / name).touch()
        with pytest.raises(SystemExit) as caught:
            tool.main([str(folder), str(tmp_path / 'out'), ann])
        assert caught.value.code == 2 and words in capsys.readouterr().err
