# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""From a file to packed inputs: decoding, samplers, datasets, faults."""
import logging

import av
import numpy as np
import pytest
import torch
from mmaction.datasets.repeat_aug_dataset import repeat_pseudo_collate
from mmaction.datasets.transforms import PyAVDecode, PyAVInit
from mmengine.dataset import Compose
from mmengine.logging import MMLogger
from tiny_run import forget_runs

from mmaction_tokenreduce.datasets import (
    BadVideoError,
    MotionDecode,
    MotionInit,
    MotionVideoDataset,
)
from mmaction_tokenreduce.datasets.motion_stream import MotionReader
from mmaction_tokenreduce.datasets.moving_square import MovingSquare, encode
from mmaction_tokenreduce.datasets.transforms import decode as decode_module

ENCODERS = {
    'h264.mp4': ('libx264', dict(refs=1, bf=0, g=250)), 'default.mp4': ('libx264', {}),
    'gops.mp4': ('libx264', dict(g=9)), 'h264.mkv': ('libx264', {}),
    'h264.ts': ('libx264', dict(g=12)), 'mpeg4.avi': ('mpeg4', dict(bf=2)),
    'vp9.webm': ('libvpx-vp9', {})}


def scoped(entries):
    return [dict(entry, type=f'mmaction.{entry["type"]}') for entry in entries]


PIPELINE = [
    dict(type='MotionInit'),
    dict(type='SampleFrames', clip_len=4, frame_interval=3),
    dict(type='MotionDecode'),
    dict(type='FollowMotion', transforms=[
        dict(type='RandomResizedCrop', area_range=(0.5, 1.0)),
        dict(type='Resize', scale=(64, 64), keep_ratio=False), dict(type='Flip')]),
    dict(type='FormatMotion', stride=4),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))]


@pytest.fixture(autouse=True)
def own_logger():
    forget_runs()
    decode_module._warned.clear()
    yield
    forget_runs()


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder, video = tmp_path_factory.mktemp('videos'), MovingSquare((2, 1), frames=32)
    for name, (codec, options) in ENCODERS.items():
        encode(folder / name, video.frames, codec, **options)
    return folder


def run(path, frame_inds, clip_len, **options):
    results = MotionInit()(dict(filename=str(path), modality='RGB', start_index=0))
    results.update(frame_inds=np.array(frame_inds), clip_len=clip_len,
                   num_clips=len(frame_inds) // clip_len)
    return MotionDecode(**options)(results)


@pytest.mark.parametrize('inds', [
    [0, 4, 8, 12], [20, 24, 28, 31], [5, 5, 7, 3], [28, 31, 34, 37], [31, 0, 30, 1]])
@pytest.mark.parametrize('name', ENCODERS)
def test_frames_are_those_of_mmaction2(videos, name, inds):
    results = PyAVInit()(dict(filename=str(videos / name)))
    expected = PyAVDecode()(dict(results, frame_inds=np.array(inds)))['imgs']
    found = run(videos / name, inds, 4)
    assert found['total_frames'] == 32 and found['img_shape'] == (120, 200)
    for one, other in zip(found['imgs'], expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found['motion'].shape == (4, 30, 50, 2)
    assert found['motion'].dtype == np.float32


def test_repeated_frames_are_arrays_of_their_own(videos):
    found = run(videos / 'h264.mp4', [5, 5, 5, 9], 4)
    assert not np.shares_memory(found['imgs'][0], found['imgs'][1])
    assert not found['motion'][:3].any() and found['motion'][3].any()


@pytest.mark.parametrize('name', ['h264.mp4', 'default.mp4', 'gops.mp4', 'mpeg4.avi'])
def test_clips_in_one_pass_are_the_clips_alone(videos, name):
    inds = [0, 3, 6, 9, 20, 23, 26, 29, 2, 6, 10, 14, 11, 12, 11, 30]
    together = run(videos / name, inds, 4)
    alone = [run(videos / name, inds[at:at + 4], 4) for at in range(0, 16, 4)]
    np.testing.assert_array_equal(together['motion'],
                                  np.concatenate([one['motion'] for one in alone]))
    assert not together['motion'][::4].any()


def test_one_pass_and_few_images(videos, monkeypatch):
    """Each packet is decoded once, and only the wanted frames become RGB."""
    converted, opened = [], []
    real = av.open
    monkeypatch.setattr(av, 'open', lambda *args, **kw: opened.append(1) or real(
        *args, **kw))
    reader = MotionReader(str(videos / 'default.mp4'))
    task = MotionReader._read.__globals__['_Task']
    take = task.take
    monkeypatch.setattr(task, 'take', lambda self, number, frame, link: (
        converted.append(number) if number in self._wanted else None,
        take(self, number, frame, link))[1])
    reader.read(np.array([3, 9, 15, 9, 15, 20]), 3)
    assert converted == [3, 9, 15, 20]
    assert len(opened) == 2  # the index, and the pass


def test_far_frames_start_at_a_key_frame(tmp_path, monkeypatch):
    video = MovingSquare((2, 1), frames=60)
    path = encode(tmp_path / 'video.mp4', video.frames, g=15, sc_threshold=0)
    decoded = []
    globals_ = MotionReader._read.__globals__
    frames = globals_['_frames']

    def watched(*args):
        for item in frames(*args):
            decoded.append(item[0])
            yield item

    monkeypatch.setitem(globals_, '_frames', watched)
    far = MotionReader(path).read(np.array([50, 55]), 2)
    assert decoded[0] == 45 and max(decoded) <= 59
    monkeypatch.setattr(globals_['MotionReader'], '_seek', lambda *args: None)
    near = MotionReader(path).read(np.array([50, 55]), 2)
    np.testing.assert_array_equal(far.imgs[1], near.imgs[1])
    np.testing.assert_allclose(far.fields, near.fields)


@pytest.mark.parametrize('sampler', [
    dict(type='SampleFrames', clip_len=4, frame_interval=2, num_clips=5,
         test_mode=True),
    dict(type='SampleFrames', clip_len=8, frame_interval=9, num_clips=1),  # loops
    dict(type='SampleFrames', clip_len=4, frame_interval=20, out_of_bound_opt=(
        'repeat_last')),
    dict(type='UniformSample', clip_len=8, num_clips=1),
    dict(type='UniformSample', clip_len=4, num_clips=3, test_mode=True)])
def test_samplers_and_flips_commute(videos, sampler):
    """Fields of a flipped clip are the flipped fields, and frames as well."""
    packed = []
    for flip in (0, 1):
        np.random.seed(4)
        pipeline = Compose(scoped([
            dict(type='MotionInit'), dict(sampler), dict(type='MotionDecode'),
            dict(type='FollowMotion', transforms=[
                dict(type='Resize', scale=(-1, 96)),
                dict(type='CenterCrop', crop_size=88),
                dict(type='Flip', flip_ratio=flip)]),
            dict(type='FormatMotion', grid=(22, 22)),
            dict(type='FormatShape', input_format='NCTHW'),
            dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))]))
        packed.append(pipeline(dict(filename=str(videos / 'h264.mp4'), start_index=0,
                                    modality='RGB', label=0))['inputs'])
    clips = sampler.get('num_clips', 1)
    shape = (clips, 2, sampler['clip_len'], 22, 22)
    assert packed[0]['motion'].shape == shape
    assert packed[0]['motion'].dtype == torch.float16 and packed[0]['motion'].any()
    sign = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1, 1)
    torch.testing.assert_close(
        packed[1]['motion'].float(), packed[0]['motion'].flip(-1).float() * sign,
        atol=0, rtol=0)
    torch.testing.assert_close(packed[1]['imgs'], packed[0]['imgs'].flip(-1))


def test_the_same_square_flipped_before_encoding(tmp_path):
    """Not only the arrays: the fields of a mirrored video point the other way."""
    video = MovingSquare((3, 1))
    there = run(encode(tmp_path / 'a.mp4', video.frames, refs=1, bf=0), [8, 12], 2)
    mirror = video.frames[:, :, ::-1].copy()
    back = run(encode(tmp_path / 'b.mp4', mirror, refs=1, bf=0), [8, 12], 2)
    mirrored = back['motion'][:, :, ::-1] * [-1, 1]
    assert np.median(video.errors(there['motion'][1], 12, 8)) < 0.5
    assert np.median(video.errors(mirrored[1], 12, 8)) < 0.5


def test_codecs_without_vectors_give_zero_and_one_warning(videos, tmp_path):
    logger, records = MMLogger.get_instance('motion'), []
    logger.addHandler(type('Keep', (logging.Handler,), {
        'emit': lambda self, record: records.append(record.getMessage())})())
    other = tmp_path / 'other.webm'
    other.write_bytes((videos / 'vp9.webm').read_bytes())
    for path in (videos / 'vp9.webm', other):
        found = run(path, [0, 5, 10], 3)
        assert not found['motion'].any() and found['motion_flags']['no_vectors']
        assert found['motion_flags']['codec'] == 'vp9'
    assert len(records) == 1
    assert 'vp9.webm: no motion vectors (*.webm, vp9)' in records[0]


def test_optical_flow_in_place_of_the_stream(videos):
    for method in ('dis', 'tvl1'):
        found = run(videos / 'vp9.webm', [4, 5], 2, fields='optical_flow', flow=method,
                    spacing=8)
        assert found['motion'].shape == (2, 15, 25, 2) and found['motion'][1].any()
        assert found['motion_flags']['source'] == 'optical_flow'


@pytest.mark.parametrize('options,message', [
    (dict(fields='flow'), "fields of MotionDecode must be one of"),
    (dict(flow='farneback'), 'flow of MotionDecode must be one of'),
    (dict(spacing=0), 'spacing of MotionDecode must be above 0'),
    (dict(threads=0), 'threads of MotionDecode must be at least 1')])
def test_mistakes_in_the_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MotionDecode(**options)


def test_threads_give_the_same_fields(videos):
    one, more = (run(videos / 'default.mp4', [0, 8, 16, 24], 4, threads=threads)
                 for threads in (1, 4))
    np.testing.assert_array_equal(one['motion'], more['motion'])


def test_faults_name_the_video(videos, tmp_path):
    with pytest.raises(BadVideoError, match=r'gone\.mp4 cannot be read: no such file'):
        run(tmp_path / 'gone.mp4', [0, 1], 2)
    for name, data in (('empty.mp4', b''), ('noise.mp4', b'\1\2\3' * 999), (
            'short.mp4', (videos / 'h264.mp4').read_bytes()[:4000])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadVideoError, match=f'{name} cannot be read'):
            run(tmp_path / name, [0, 1], 2)


def test_a_video_that_ends_early_names_the_frame(tmp_path):
    path = tmp_path / 'cut.mp4'
    with av.open(str(path), 'w', options=dict(movflags='faststart')) as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = 200, 120, 'yuv420p'
        for frame in MovingSquare((2, 1), frames=40).frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, 'rgb24')))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[:len(data) * 6 // 10])
    with pytest.raises(BadVideoError, match=r'cut\.mp4 cannot be read'):
        run(path, [0, 39], 2)


def dataset_of(folder, text, pipeline=None, **options):
    (folder / 'list.txt').write_text(text)
    return MotionVideoDataset(str(folder / 'list.txt'), scoped(pipeline or PIPELINE),
                              data_prefix=dict(video=str(folder)), **options)


def test_a_dataset_gives_frames_and_motion(videos):
    item = dataset_of(videos, 'h264.mp4 3\n')[0]
    assert item['inputs']['imgs'].shape == (1, 3, 4, 64, 64)
    assert item['inputs']['motion'].shape == (1, 2, 4, 16, 16)
    assert item['data_samples'].gt_label.item() == 3


@pytest.mark.parametrize('decoder', ['motion', 'decord', 'pyav', 'opencv'])
def test_repeats_share_one_decode(videos, decoder, monkeypatch):
    pipeline = PIPELINE
    if decoder != 'motion':
        names = dict(decord='Decord', pyav='PyAV', opencv='OpenCV')
        pipeline = [dict(type=f'{names[decoder]}Init'), PIPELINE[1],
                    dict(type=f'{names[decoder]}Decode'),
                    *PIPELINE[3]['transforms'], PIPELINE[5],
                    dict(type='PackActionInputs', collect_keys=('imgs',))]
    dataset = dataset_of(videos, 'h264.mp4 1\n', pipeline, num_repeats=3)
    decode, calls = dataset.pipeline.decode, []
    dataset.pipeline.decode = lambda sample: calls.append(sample) or decode(sample)
    np.random.seed(0)
    items = dataset[0]
    assert len(items) == 3 and len(calls) == 1
    assert len(calls[0]['frame_inds']) == 12
    clips = [item['inputs']['imgs'] for item in items]
    assert all(clip.shape == (1, 3, 4, 64, 64) for clip in clips)
    assert not torch.equal(clips[0], clips[1])
    batch = repeat_pseudo_collate([items, items])
    assert len(batch['inputs']['imgs']) == 6


def test_each_repeat_is_what_the_pipeline_alone_gives(videos):
    plain = [dict(entry) for entry in PIPELINE]
    plain[3] = dict(type='FollowMotion', transforms=[dict(type='CenterCrop',
                                                          crop_size=64)])
    np.random.seed(7)
    items = dataset_of(videos, 'h264.mp4 1\n', plain, num_repeats=2)[0]
    np.random.seed(7)
    alone = dataset_of(videos, 'h264.mp4 1\n', plain)
    for item in items:
        expected = alone[0]
        torch.testing.assert_close(item['inputs'], expected['inputs'])


def test_bad_videos_in_a_dataset(videos, tmp_path):
    (tmp_path / 'bad.mp4').write_bytes(b'\1\2\3' * 999)
    for repeats in (None, 1, 2):
        dataset = dataset_of(tmp_path, 'bad.mp4 0\n', num_repeats=repeats)
        with pytest.raises(BadVideoError, match=r'bad\.mp4 cannot be read.*list\.txt'):
            dataset[0]
    (tmp_path / 'good.mp4').write_bytes((videos / 'h264.mp4').read_bytes())
    dataset = dataset_of(tmp_path, 'bad.mp4 0\ngood.mp4 1\n', num_repeats=2,
                         on_bad_video='skip')
    assert [item['data_samples'].gt_label.item() for item in dataset[0]] == [1, 1]


@pytest.mark.parametrize('at,entry,message', [
    (3, dict(type='Flip'), 'Flip of the pipeline would part the frames'),
    (5, dict(type='Resize', scale=(8, 8)), 'Resize of the pipeline would part'),
    (4, dict(type='FormatShape', input_format='NCTHW'), 'FormatShape of the pipeline'),
    (0, dict(type='PyAVInit'), 'MotionDecode needs MotionInit')])
def test_pipelines_that_part_frames_and_fields_are_refused(videos, at, entry, message):
    pipeline = [*PIPELINE[:at], entry, *PIPELINE[at + (at == 0):]]
    with pytest.raises(ValueError, match=message):
        dataset_of(videos, 'h264.mp4 1\n', pipeline)
