# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Frame mAP of AVA's format: mmaction2's number, and what it refuses."""
import os

import pytest
import torch
from mmaction.evaluation.metrics import AVAMetric

from mmaction_tokenreduce.evaluation import CheckedAVAMetric, ava_metric

ROWS = ['v1,0001,0.1,0.2,0.5,0.6,1,0', 'v1,0001,0.1,0.2,0.5,0.6,2,0',
        'v1,0003,0.5,0.0,1.0,1.0,2,1', 'v2,0002,0.0,0.0,0.25,0.5,1,0']
MAP = 'item {\n  name: "run"\n  id: 1\n}\nitem {\n  name: "sit"\n  id: 2\n}\n'


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'ann.csv').write_text('\n'.join(ROWS) + '\n')
    (tmp_path / 'map.pbtxt').write_text(MAP)
    (tmp_path / 'excluded.csv').write_text('v2,0002\n')
    return tmp_path


def sample(video, timestamp, boxes, scores):
    return dict(video_id=video, timestamp=timestamp, pred_instances=dict(
        bboxes=torch.tensor(boxes), scores=torch.tensor(scores)))


SAMPLES = [
    sample('v1', 1, [[0.1, 0.2, 0.5, 0.6], [0.6, 0.6, 0.9, 0.9]],
           [[0.0, 0.9, 0.2], [0.0, 0.95, 0.1]]),
    sample('v1', 3, [[0.5, 0.0, 1.0, 0.9]], [[0.0, 0.1, 0.8]]),
    sample('v2', 2, [[0.0, 0.0, 0.25, 0.5]], [[0.0, 0.5, 0.3]])]


def evaluate(kind, exclude, samples=SAMPLES, **options):
    metric = kind('ann.csv', exclude, 'map.pbtxt', num_classes=3, **options)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_the_number_is_mmaction2s(files):
    """Run: wrong, right, right of 2, sit: right, wrong?, right of 2."""
    value = evaluate(CheckedAVAMetric, None)
    # run: 0.95 wrong, 0.9 right, 0.5 right: precision 1/2, 2/3; 2/3 from the start
    # sit: 0.8 right, 0.3 wrong, 0.2 right: 1, 2/3
    assert value['mAP/overall'] == pytest.approx((2 / 3 + (1 + 2 / 3) / 2) / 2)
    assert value['mAP/overall'] == evaluate(AVAMetric, None)['mAP/overall']
    assert set(value) == {'mAP/overall', 'mAP/person_movement'}


def test_excluded_boxes_are_not_missed(files):
    """Without the keyframe there is one true box of run, found second: 1/2."""
    value = evaluate(CheckedAVAMetric, 'excluded.csv', SAMPLES[:2])
    assert value['mAP/overall'] == pytest.approx((1 / 2 + 1) / 2)
    assert evaluate(AVAMetric, 'excluded.csv', SAMPLES[:2])['mAP/overall'] < (
        value['mAP/overall'])


def test_nothing_is_left_behind(files):
    before = sorted(os.listdir())
    evaluate(CheckedAVAMetric, None)
    assert sorted(os.listdir()) == before


def test_a_class_without_true_boxes_is_left_out(files):
    """compat: numpy 2 has no NAN."""
    (files / 'map.pbtxt').write_text(MAP + 'item {\n  name: "fly"\n  id: 3\n}\n')
    metric = CheckedAVAMetric('ann.csv', None, 'map.pbtxt', num_classes=4)
    metric.process(None, [
        sample('v1', 1, [[0.1, 0.2, 0.5, 0.6]], [[0, 0.9, 0.8, 0.7]])])
    # one of two true boxes of run and of sit is found
    assert metric.evaluate(1)['mAP/overall'] == pytest.approx(0.5)


def test_silent_classes_are_named(files, monkeypatch):
    logged = []
    monkeypatch.setattr(ava_metric, 'print_log', lambda text, *_: logged.append(text))
    quiet = [sample('v1', 1, [[0.1, 0.2, 0.5, 0.6]], [[0.0, 0.9, 0.0]])]
    evaluate(CheckedAVAMetric, None, quiet)
    assert logged == ['the mean of average precisions leaves out classes that have no '
                      'score above action_thr=0.002: sit']


def test_a_keyframe_without_detections(files):
    empty = sample('v1', 3, torch.zeros(0, 4).tolist(), [])
    empty['pred_instances'] = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0, 3))
    value = evaluate(CheckedAVAMetric, None, [SAMPLES[0], empty])
    assert 0 < value['mAP/overall'] < 1


@pytest.mark.parametrize('change, error, message', [
    (dict(ann_file='none.csv'), FileNotFoundError, r'none.csv not found \(ann_file of'),
    (dict(label_file='none'), FileNotFoundError, r'none not found \(label_file of'),
    (dict(num_classes=2), ValueError, 'has label 2, but num_classes of'),
    (dict(custom_classes=[1]), ValueError, 'with custom_classes of 1 labels'),
    (dict(exclude_file='ann.csv'), ValueError, 'ann.csv line 1 has 8 columns'),
    (dict(ann_file='excluded.csv'), ValueError,
     'annotation file excluded.csv line 1 has 2 columns'),
    (dict(ann_file='far.csv'), ValueError,
     'far.csv line 1 has label 3, must be 1 to 2'),
    (dict(ann_file='far.csv', num_classes=4), ValueError,
     'far.csv has no label of the label map map.pbtxt that would count: it names 1, 2')
])
def test_settings_that_do_not_fit(files, change, error, message):
    (files / 'far.csv').write_text('v1,0001,0.1,0.2,0.5,0.6,3,0\n')
    arguments = dict(ann_file='ann.csv', exclude_file=None, label_file='map.pbtxt',
                     num_classes=3)
    with pytest.raises(error, match=message):
        CheckedAVAMetric(**arguments | change)


def test_predictions_that_do_not_fit(files):
    metric = CheckedAVAMetric('ann.csv', None, 'map.pbtxt', num_classes=3)
    for boxes, scores, message in (
            ([[0.0, 0.0, 1.0, 1.0]], [[0.1, 0.2]], 'num_classes is the number of'),
            ([[0.0, 0.0, 90.0, 1.0]], [[0.1] * 3], 'needs boxes as shares'),
            ([[0.5, 0.0, 0.4, 1.0]], [[0.1] * 3], 'x1 <= x2 and y1 <= y2, got')):
        with pytest.raises(ValueError, match=message):
            metric.process(None, [sample('v1', 1, boxes, scores)])
