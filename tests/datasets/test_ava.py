# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""AVA's format: what is read, and the messages where it cannot be."""
import cv2
import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmaction_tokenreduce.datasets import BadVideoError, SampleKeyframeClip
from mmaction_tokenreduce.datasets.ava_annotations import read_excluded, read_label_map

ROWS = ['v1,0901,0.1,0.2,0.5,0.6,1,0', 'v1,0901,0.1,0.2,0.5,0.6,3,0',
        'v1,0901,0.5,0.0,1.0,1.0,2,1', 'v1,0902,0.0,0.0,0.25,0.5,2,0']
MAP = 'item {\n  name: "run"\n  id: 1\n}\nlabel {\n  name: "sit"\n  label_id: 2\n}\n' \
      'item {\n  name: "jump"\n  id: 3\n}\n'
META = ('img_shape', 'original_shape', 'scale_factor', 'img_key', 'video_id',
        'timestamp')
PIPELINE = [dict(type='SampleKeyframeClip', clip_len=4, frame_interval=2),
            dict(type='RawFrameDecode'), dict(type='Resize', scale=(1333, 64)),
            dict(type='FormatShape', input_format='NCTHW', collapse=True),
            dict(type='PackActionInputs', meta_keys=META)]


@pytest.fixture
def files(tmp_path):
    """A video of 3 seconds, 5 frames each, whose red tells the frame's number."""
    folder = tmp_path / 'frames/v1'
    folder.mkdir(parents=True)
    for number in range(1, 16):
        image = np.zeros((32, 48, 3), np.uint8)
        image[..., 2] = number * 10
        cv2.imwrite(str(folder / f'img_{number:05}.jpg'), image)
    (tmp_path / 'ann.csv').write_text('\n'.join(ROWS) + '\n')
    (tmp_path / 'map.pbtxt').write_text(MAP)
    (tmp_path / 'excluded.csv').write_text('v1,0902\n')
    return tmp_path


def build(files, kind='CheckedAVADataset', **changes):
    arguments = dict(
        type=kind, ann_file=str(files / 'ann.csv'), label_file=str(files / 'map.pbtxt'),
        exclude_file=None, data_prefix=dict(img=str(files / 'frames')), num_classes=4,
        timestamp_start=900, timestamp_end=903, fps=5, pipeline=PIPELINE)
    with DefaultScope.overwrite_default_scope('mmaction'):
        return DATASETS.build(arguments | changes)


@pytest.mark.parametrize('test_mode', [False, True])
@pytest.mark.parametrize('kind', ['CheckedAVADataset', 'CheckedAVAKineticsDataset'])
def test_a_sample(files, kind, test_mode):
    dataset = build(files, kind, test_mode=test_mode)
    assert len(dataset) == 2
    packed = dataset[0]
    sample = packed['data_samples']
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'].shape == (3, 4, 64, 96)
    # second 901 is frame 5 from 0, file 6; two frames before it, one after
    red = packed['inputs'][0].float().mean((1, 2))
    torch.testing.assert_close(red, torch.tensor([20.0, 40.0, 60.0, 80.0]), atol=3,
                               rtol=0)
    torch.testing.assert_close(
        sample.gt_instances.bboxes,
        torch.tensor([[9.6, 12.8, 48.0, 38.4], [48.0, 0.0, 96.0, 64.0]]))
    assert sample.gt_instances.labels.tolist() == [[0, 1, 0, 1], [0, 0, 1, 0]]
    assert 'proposals' not in sample
    assert (sample.img_shape, sample.original_shape) == ((64, 96), (32, 48))
    assert sample.scale_factor.tolist() == [2, 2]
    assert (sample.video_id, sample.timestamp, sample.img_key) == ('v1', 901, 'v1,0901')


def test_excluded_keyframes_are_left_out(files):
    dataset = build(files, exclude_file=str(files / 'excluded.csv'))
    assert [info['timestamp'] for info in map(dataset.get_data_info,
                                              range(len(dataset)))] == [901]


def test_chosen_classes(files):
    dataset = build(files, custom_classes=[3], num_classes=2)
    assert len(dataset) == 1
    assert dataset[0]['data_samples'].gt_instances.labels.tolist() == [[0, 1]]


def test_frames_are_counted_where_asked(files):
    for number in (14, 15):
        (files / f'frames/v1/img_{number:05}.jpg').unlink()
    assert build(files, count_frames=True)[1]['inputs'].shape[1] == 4
    for number in (10, 11, 12, 13):
        (files / f'frames/v1/img_{number:05}.jpg').unlink()
    with pytest.raises(BadVideoError, match='img_00011.jpg cannot be read'):
        build(files)[1]


@pytest.mark.parametrize('line, message', [
    ('', 'is blank; delete it'),
    ('v1,0901,,,,,,', 'has no box; delete it'),
    ('v1,0901,0.1,0.2,0.5,0.6,1', 'has 7 columns, must be the 8 columns video_id'),
    ('v,1,0901,0.1,0.2,0.5,0.6,1,0', 'has 9 columns'),
    ('v1,901.5,0.1,0.2,0.5,0.6,1,0', "has timestamp '901.5', must be a whole number"),
    ('v1,0901,0.1,0.2,0.5,0.6,run,0', "has label 'run', must be a whole number; write"),
    ('video_id,timestamp,x1,y1,x2,y2,label,entity_id', 'is a line of headings'),
    ('v1,0901,0.1,0.2,a,0.6,1,0', 'has box 0.1,0.2,a,0.6, must be four numbers'),
    ('v1,0901,0.1,0.2,nan,0.6,1,0', 'has box 0.1,0.2,nan,0.6, must be four numbers'),
    ('v1,0901,10,20,50,60,1,0', 'has box 10,20,50,60 in pixels, must be shares'),
    ('v1,0901,-0.1,0.2,0.5,0.6,1,0', 'must be within 0 to 1; clip it'),
    ('v1,0901,0.1,0.2,0.5,1.1,1,0', 'must be within 0 to 1; clip it'),
    ('v1,0901,0.5,0.2,0.3,0.6,1,0', 'with x2 <= x1 or y2 <= y1, must be left, top'),
    ('v1,0901,0.1,0.2,0.5,0.6,0,0', 'has label 0, must count from 1'),
    ('v1,0901,0.1,0.2,0.5,0.6,4,0', 'has label 4, must be 1 to 3, as num_classes=4'),
    ('v1,0003,0.1,0.2,0.5,0.6,1,0',
     'has timestamp 3, but the video is taken to run from 900 to 903; set'),
    ('v1,0903,0.1,0.2,0.5,0.6,1,0', 'has timestamp 903, but the video'),
])
def test_a_faulty_line_is_named(files, line, message):
    (files / 'ann.csv').write_text('\n'.join([*ROWS[:2], line, ROWS[2]]) + '\n')
    with pytest.raises(ValueError, match=message) as caught:
        build(files)
    assert f'annotation file {files}/ann.csv line 3 ' in str(caught.value)


def test_a_label_outside_of_the_map_is_named(files):
    (files / 'map.pbtxt').write_text(MAP.split('label {')[0])
    with pytest.raises(ValueError, match='ann.csv line 2 has label 3, which the label'):
        build(files)


def test_a_byte_order_mark_is_named(files):
    (files / 'ann.csv').write_text('\ufeff' + '\n'.join(ROWS))
    with pytest.raises(ValueError, match='line 1 has video_id .*byte order marks'):
        build(files)


@pytest.mark.parametrize('key, name, message', [
    ('ann_file', 'none.csv', 'annotation file .*none.csv not found'),
    ('exclude_file', 'none.csv', r'none.csv not found \(exclude_file of the dataset\)'),
    ('label_file', 'none.csv', r'none.csv not found \(label_file of the dataset\)')])
def test_missing_files(files, key, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        build(files, **{key: str(files / name)})


def test_a_missing_folder(files):
    with pytest.raises(FileNotFoundError, match=r'folder of the frames .*do this.*img'):
        build(files, data_prefix=dict(img=str(files / 'none')), hint='do this')


@pytest.mark.parametrize('spoil, message', [
    (lambda path: path.unlink(), 'no such file, the folder holds 14 files from '
     'img_00001.jpg on, with gaps; check fps'),
    (lambda path: path.write_bytes(b''), r'the file is empty \(0 bytes\)'),
    (lambda path: path.write_bytes(b'no image'), 'the file is no image'),
    (lambda path: [one.rename(one.with_name(f'f_{i:03}.png')) for i, one
                   in enumerate(sorted(path.parent.iterdir()))],
     r"holds f_000.png to f_014.png; set filename_tmpl='f_\{:03\}.png' and "
     'start_index=0'),
    (lambda path: path.parent.rename(path.parent.with_name('v2')),
     'no such folder; point data_prefix.img'),
])
def test_an_unreadable_frame_is_named_with_its_line(files, spoil, message):
    dataset = build(files)
    spoil(files / 'frames/v1/img_00006.jpg')
    with pytest.raises(BadVideoError, match=message) as caught:
        dataset[0]
    assert f'timestamp 901 of video v1 in {files}/ann.csv line 1' in str(caught.value)


def test_other_faults_of_a_pipeline_pass_through(files):
    dataset = build(files, pipeline=[*PIPELINE[:2], dict(type='Resize', scale=(0, 0))])
    with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever OpenCV raises)
        dataset[0]
    assert not isinstance(caught.value, BadVideoError)
    assert 'line 1' in caught.value.__notes__[0]


def test_classes_that_do_not_fit(files):
    for changes, message in (
            (dict(custom_classes=[3, 1]), 'with custom_classes of 2 labels it'),
            (dict(custom_classes=[9], num_classes=2), 'custom_classes has label 9'),
            (dict(custom_classes=[1], num_classes=2, label_file=None),
             'custom_classes of the dataset needs label_file')):
        with pytest.raises(ValueError, match=message):
            build(files, **changes)


def test_an_exclude_file_of_everything(files):
    (files / 'excluded.csv').write_text('v1,0901\nv1,0902\n')
    with pytest.raises(ValueError, match='names every keyframe'):
        build(files, exclude_file=str(files / 'excluded.csv'))


@pytest.mark.parametrize('line, message', [
    ('', 'line 2 is blank, must be video_id,timestamp'),
    ('v1', 'line 2 has 1 columns'), ('v1,x', "line 2 has timestamp 'x'")])
def test_faulty_excluded_lists(files, line, message):
    (files / 'excluded.csv').write_text(f'v1,0901\n{line}\nv1,0902\n')
    with pytest.raises(ValueError, match=message):
        read_excluded(str(files / 'excluded.csv'))


@pytest.mark.parametrize('change, message', [
    (('  name', '\tname'), 'line 2: .* is not read by mmaction2'),
    (('  id: 1', '    id: 1'), 'line 3: .* is not read by mmaction2'),
    (('id: 1', 'id:1'), 'line 3: .* is not read by mmaction2'),
    (('id: 1', 'id: 0'), 'line 3: .* must count from 1'),
    (('id: 3', 'id: 1'), 'line 11: .* has the id of line 3'),
    (('  name: "sit"\n', ''), 'line 6: .* has no name before it'),
])
def test_faulty_label_maps(files, change, message):
    (files / 'map.pbtxt').write_text(MAP.replace(*change))
    with pytest.raises(ValueError, match=message):
        read_label_map(str(files / 'map.pbtxt'))


def test_label_maps_are_read_as_mmaction2_does(files):
    from mmaction.evaluation import read_labelmap
    path = files / 'map.pbtxt'
    with open(path) as file:
        items, _ = read_labelmap(file)
    assert read_label_map(str(path)) == {item['id']: item['name'] for item in items}


# The clip


def naive_clip(centre, total, first):
    return [min(max(centre + offset, 0), total - 1) + first
            for offset in range(-32, 29, 4)]


@pytest.mark.parametrize('timestamp, start_index', [(902, 1), (900, 1), (1799, 0)])
@pytest.mark.parametrize('counted', [None, 26990])
def test_the_clip_is_the_papers(timestamp, start_index, counted):
    info = dict(fps=30, timestamp=timestamp, timestamp_start=900,
                shot_info=(0, 27000), start_index=start_index, total_frames=counted)
    for _ in range(3):  # no jitter
        found = SampleKeyframeClip().transform(dict(info))
        assert found['frame_inds'].tolist() == naive_clip(
            30 * (timestamp - 900), counted or 27000, start_index)
    assert [found[key] for key in ('clip_len', 'frame_interval', 'num_clips')] == [
        16, 4, 1]
    assert found['frame_inds'][8] == 30 * (timestamp - 900) + start_index


def test_clips_that_cannot_be():
    with pytest.raises(ValueError, match='frame_interval of SampleKeyframeClip'):
        SampleKeyframeClip(16, 0)
    info = dict(fps=30, timestamp=3, timestamp_start=900, shot_info=(0, 27000))
    with pytest.raises(ValueError, match='is its frame -26910, counted from 0, but it'):
        SampleKeyframeClip().transform(info)


@pytest.mark.parametrize('size, resized', [((360, 640), (288, 512)),
                                           ((100, 800), (167, 1333)),
                                           ((480, 360), (384, 288))])
def test_boxes_follow_the_size(repo_dir, size, resized):
    cfg = Config.fromfile(str(repo_dir / 'configs/_base_/datasets/ava.py'))
    step = next(step for step in cfg.train_pipeline if step.type == 'Resize')
    with DefaultScope.overwrite_default_scope('mmaction'):
        resize = TRANSFORMS.build(step)
    image = np.zeros((*size, 3), np.uint8)
    box = np.array([[size[1] / 2, size[0] / 4, size[1], size[0]]], np.float32)
    result = resize(dict(imgs=[image], img_shape=size, modality='RGB', gt_bboxes=box))
    assert result['img_shape'] == resized
    height, width = resized
    np.testing.assert_allclose(result['gt_bboxes'],
                               [[width / 2, height / 4, width, height]], rtol=1e-5)
