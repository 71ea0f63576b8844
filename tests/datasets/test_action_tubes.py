# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""JHMDB's and UCF101-24's annotations: a pickle that runs nothing, and the dataset."""
import importlib.util
import json
import os
import pickle
from collections import OrderedDict

import cv2
import numpy as np
import pytest
import torch
from mmaction.registry import DATASETS
from mmengine.registry import DefaultScope

from mmaction_tokenreduce.datasets import BadVideoError
from mmaction_tokenreduce.datasets.action_tubes import frame_truth, read_tubes
from mmaction_tokenreduce.datasets.tube_pickle import RefusedPickleError, load_tubes

TUBE = np.array([[2, 8, 4, 32, 28], [3, 10, 4, 34, 28]], np.float32)
CONTENT = dict(
    labels=['run', 'sit'],
    gttubes={'run/a': {0: [TUBE, np.array([[3, 0, 0, 70, 20]], np.float64)]},
             'sit/b': {1: [np.array([[1, 0, 0, 24, 16]], np.float32)]}},
    nframes={'run/a': 4, 'sit/b': 1}, train_videos=[['run/a'], ['sit/b']],
    test_videos=[['sit/b'], ['run/a']],
    resolution={'run/a': (32, 48), 'sit/b': (32, 48)})
PIPELINE = [dict(type='SampleKeyframeClip', clip_len=4, frame_interval=1),
            dict(type='RawFrameDecode'),
            dict(type='FormatShape', input_format='NCTHW', collapse=True),
            dict(type='PackActionInputs')]


@pytest.fixture(scope='module')
def tool(repo_dir):
    path = repo_dir / 'tools/data/convert_tube_pickle.py'
    spec = importlib.util.spec_from_file_location('convert_tube_pickle', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(tmp_path, tool):
    """Pickle, JSON, and frames whose red is 10 times their number."""
    (tmp_path / 'gt.pkl').write_bytes(pickle.dumps(CONTENT, protocol=2))
    tool.main([str(tmp_path / 'gt.pkl'), str(tmp_path / 'gt.json')])
    for video, count in CONTENT['nframes'].items():
        folder = tmp_path / 'frames' / video
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            image = np.zeros((32, 48, 3), np.uint8)
            image[..., 2] = number * 10
            cv2.imwrite(str(folder / f'{number:05}.png'), image)
    return tmp_path


def build(files, **changes):
    arguments = dict(type='ActionTubeDataset', ann_file=str(files / 'gt.json'),
                     num_classes=3, data_prefix=dict(img=str(files / 'frames')),
                     filename_tmpl='{:05}.png', pipeline=PIPELINE)
    with DefaultScope.overwrite_default_scope('mmaction'):
        return DATASETS.build(arguments | changes)


# Pickles


@pytest.mark.parametrize('protocol', range(5))
def test_arrays_come_through(protocol):
    found = load_tubes(pickle.dumps(CONTENT, protocol=protocol))
    assert found['gttubes']['run/a']['0'] == [TUBE.tolist(), [[3, 0, 0, 70, 20]]]
    assert found['nframes'] == CONTENT['nframes']
    json.dumps(found)


def test_a_pickle_of_python_2_comes_through():
    """Bytes in strings, numpy's names of then: written by hand, as Python 3 cannot."""
    array = (b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS\'b\'\n'
             b'tR(I1\n(I1\nI5\ntcnumpy\ndtype\n(S\'f4\'\nI0\nI1\ntR(I3\nS\'<\'\nNNN'
             b'I-1\nI-1\nI0\ntbI00\nS%b\ntb')
    raw = np.array([[2, 8, 4, 32, 28]], '<f4').tobytes()
    text = b"'" + b''.join(b'\\x%02x' % byte for byte in raw) + b"'"
    data = pickle.dumps(dict(CONTENT, gttubes={'v': {0: ['HERE']}}), protocol=0)
    found = load_tubes(data.replace(b'VHERE\np', array % text + b'p'))
    assert found['gttubes'] == {'v': {'0': [[[2, 8, 4, 32, 28]]]}}


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize('thing, name', [
    (Evil(os.system, 'true'), 'posix.system'), (Evil(eval, '1'), '__builtin__.eval'),
    (Evil(np.load, 'x'), 'numpy.load'), (OrderedDict(a=1), 'collections.OrderedDict'),
    (np.float32(3), 'multiarray.scalar'), (Evil(getattr, 1, 'real'), 'getattr')])
def test_everything_else_is_refused_by_name(thing, name, tmp_path, tool, capsys):
    data = pickle.dumps(dict(CONTENT, nframes=thing), protocol=2)
    with pytest.raises(RefusedPickleError, match=name) as caught:
        load_tubes(data)
    assert 'nothing but numpy arrays is read' in str(caught.value)
    (tmp_path / 'gt.pkl').write_bytes(data)
    with pytest.raises(SystemExit, match='2'):
        tool.main([str(tmp_path / 'gt.pkl'), str(tmp_path / 'gt.json')])
    assert name in capsys.readouterr().err
    assert not (tmp_path / 'gt.json').exists()


def test_what_builds_arrays_builds_nothing_else():
    import _codecs
    for thing in (Evil(_codecs.encode, 'a', 'rot13'),
                  Evil(np._core.multiarray._reconstruct, np.ndarray, (3, ), b'O')):
        with pytest.raises(RefusedPickleError, match='is refused but for'):
            load_tubes(pickle.dumps(dict(CONTENT, nframes=thing), protocol=2))


@pytest.mark.parametrize('data, message', [
    (b'no pickle', 'it is no pickle, or a damaged one'),
    (pickle.dumps(CONTENT)[:100], 'it is no pickle, or a damaged one'),
    (pickle.dumps([1]), 'it has no labels, gttubes, nframes'),
    (pickle.dumps(dict(CONTENT, labels=[None])), r'labels\[0\] is of type NoneType'),
    (pickle.dumps(dict(CONTENT, labels=np.array([{}]))), 'labels is of type ndarray')])
def test_other_pickles(data, message):
    with pytest.raises(ValueError, match=message):
        load_tubes(data)


# The dataset


def test_boxes_are_shares_of_the_frame(files):
    truth = frame_truth(read_tubes(str(files / 'gt.json')), 'run/a')
    assert sorted(truth) == [2, 3]
    expected = [(0, np.array([10 / 48, 4 / 32, 34 / 48, 28 / 32])),
                (0, np.array([0, 0, 1, 20 / 32]))]  # clipped to the frame
    for (label, box), (wanted, numbers) in zip(truth[3], expected, strict=True):
        assert label == wanted
        np.testing.assert_allclose(box, numbers)


def test_a_sample(files):
    dataset = build(files)
    assert len(dataset) == 2
    packed = dataset[1]
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 4, 32, 48)
    # frame 3 of 4 in the middle of 1, 2, 3, 4
    assert packed['inputs'][0, :, 0, 0].tolist() == [10, 20, 30, 40]
    torch.testing.assert_close(sample.gt_instances.bboxes, torch.tensor(
        [[10.0, 4, 34, 28], [0, 0, 48, 20]]))
    assert sample.gt_instances.labels.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert (sample.video_id, sample.timestamp) == ('run/a', 3)


def test_frames_without_actors(files):
    dataset = build(files, frames='all', split=2, test_mode=True)
    assert len(dataset) == 4
    instances = dataset[0]['data_samples'].gt_instances
    assert instances.bboxes.shape == (0, 4) and instances.labels.shape == (0, 3)


@pytest.mark.parametrize('changes, message', [
    (dict(num_classes=2), 'has 2 classes, so it must be 3'),
    (dict(split=3), 'split is 3, must be 1 to 2'),
    (dict(frames='some'), "frames must be 'annotated' or 'all', got 'some'")])
def test_settings_that_do_not_fit(files, changes, message):
    with pytest.raises(ValueError, match=message):
        build(files, **changes)


def test_missing_files(files):
    with pytest.raises(FileNotFoundError, match=r'none.json not found.*do this'):
        build(files, ann_file=str(files / 'none.json'), hint='do this')
    with pytest.raises(FileNotFoundError, match='frames .*none not found'):
        build(files, data_prefix=dict(img=str(files / 'none')))
    with pytest.raises(ValueError, match='is a pickle, which could run code'):
        build(files, ann_file=str(files / 'gt.pkl'))
    (files / 'frames/run/a/00003.png').unlink()
    with pytest.raises(BadVideoError, match='00003.png cannot be read'):
        build(files)[0]


@pytest.mark.parametrize('change, message', [
    (dict(gttubes={'run/a': {}}), 'has no gttubes for video sit/b'),
    (dict(gttubes={'run/a': {'2': []}, 'sit/b': {}}), 'class 2, must be 0 to 1'),
    (dict(gttubes={'run/a': {'0': [[[5, 0, 0, 9, 9]]]}, 'sit/b': {}}),
     'video run/a class 0 tube 0 has frame 5, must be a whole number from 1 to 4'),
    (dict(gttubes={'run/a': {'0': [[[2, 60, 0, 70, 9]]]}, 'sit/b': {}}),
     'class 0 tube 0 has no box within the frame in frame 2'),
    (dict(gttubes={'run/a': {'0': [[[2, 0, 0, 9, 9], [3, 0, float('nan'), 9, 9]]]},
                   'sit/b': {}}), 'class 0 tube 0 has no box within the frame in '
     'frame 3'),
    (dict(gttubes={'run/a': {'0': [[[2, 60]]]}, 'sit/b': {}}), 'must be rows of frame'),
    (dict(gttubes={'run/a': {'0': [[[2, 0, 0, 9, 9], [3]]]}, 'sit/b': {}}),
     'video run/a class 0 tube 0 must be rows of frame'),
    (dict(gttubes={'run/a': {'0': [[[2.5, 0, 0, 9, 9]]]}, 'sit/b': {}}),
     'class 0 tube 0 has frame 2.5, must be a whole number from 1 to 4'),
    (dict(gttubes={'run/a': {'0': [[[float('nan'), 0, 0, 9, 9]]]}, 'sit/b': {}}),
     'class 0 tube 0 has frame nan, must be a whole number from 1 to 4'),
    (dict(gttubes={'run/a': {}, 'sit/b': {}, 'in/none': {}}),
     'has no nframes, resolution for video in/none'),
    (dict(labels=None), 'none of action tubes: labels must be a list')])
def test_faulty_annotations_are_named(files, change, message):
    path = files / 'gt.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_tubes(str(path))
