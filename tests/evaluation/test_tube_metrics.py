# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Frame mAP and video mAP against naive computation and worked examples."""
import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmaction.evaluation.functional.ava_evaluation import metrics as voc

from mmaction_tokenreduce.evaluation import FrameMAP, VideoMAP
from mmaction_tokenreduce.evaluation.action_boxes import average_precision, box_iou
from mmaction_tokenreduce.evaluation.tube_metrics import (
    link,
    matched,
    suppress,
    tube_iou,
)


def iou(a, b):
    """Of two boxes, by hand."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def random_boxes(rng, count):
    low = rng.uniform(0, 0.6, (count, 2))
    return np.concatenate([low, low + rng.uniform(0.1, 0.4, (count, 2))], 1)


def write_tubes(folder, seed=0, videos=6, frames=20):
    """Annotations of 100x100 frames, one or two tubes a video."""
    rng = np.random.default_rng(seed)
    names = [f'v{number}' for number in range(videos)]
    tubes = {}
    for number, name in enumerate(names):
        rows = []
        for _ in range(1 + number % 2):
            box = random_boxes(rng, 1)[0] * 100
            rows.append([[frame, *(box + 0.2 * frame)]
                         for frame in range(1 + number, frames + 1)])
        tubes[name] = {str(number % 3): rows}
    path = folder / 'gt.json'
    path.write_text(json.dumps(dict(
        labels=['a', 'b', 'c'], gttubes=tubes, nframes=dict.fromkeys(names, frames),
        train_videos=[[]], test_videos=[names],
        resolution=dict.fromkeys(names, [100, 100]))))
    return str(path)


def predictions(path, seed=1):
    """Detections near the truth and elsewhere, in all frames."""
    rng = np.random.default_rng(seed)
    found = json.loads(open(path).read())
    samples = []
    for video, classes in found['gttubes'].items():
        for frame in range(1, 21):
            near = [np.array(row[1:]) / 100 + rng.normal(0, 0.03, 4)
                    for rows in classes.values() for tube in rows
                    for row in tube if row[0] == frame]
            boxes = np.concatenate([np.reshape(near, (-1, 4)), random_boxes(rng, 2)])
            scores = rng.uniform(0, 0.6, (len(boxes), 4))
            scores[:len(near), 1 + int(next(iter(classes)))] += 0.3
            samples.append(dict(video_id=video, timestamp=frame, pred_instances=dict(
                bboxes=torch.tensor(boxes), scores=torch.tensor(scores))))
    return samples


def evaluate(metric, samples):
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples))


# Parts


def test_overlap_of_boxes():
    rng = np.random.default_rng(0)
    boxes, others = random_boxes(rng, 7), random_boxes(rng, 5)
    expected = [[iou(a, b) for b in others] for a in boxes]
    np.testing.assert_allclose(box_iou(boxes, others), expected)
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4))).item() == 0


def test_average_precision_of_a_worked_example():
    # right, wrong, right of 4: precisions 1, 1/2, 2/3; envelope 1 and 2/3
    value = average_precision([0.9, 0.8, 0.7], [True, False, True], 4)
    assert value == pytest.approx((1 + 2 / 3) / 4)
    assert average_precision([], [], 3) == 0
    with pytest.raises(ValueError, match='needs a true instance'):
        average_precision([], [], 0)


def test_average_precision_is_vocs():
    rng = np.random.default_rng(0)
    for count in (1, 5, 200):
        scores, hits = rng.random(count), rng.random(count) < 0.4
        total = int(hits.sum()) + 3
        expected = voc.compute_average_precision(
            *voc.compute_precision_recall(scores, hits, total))
        assert average_precision(scores, hits, total) == pytest.approx(expected)


def test_a_true_box_is_found_once():
    overlaps = [np.array([0.9, 0.6]), np.array([0.8, 0.5]), np.array([0.7, 0.4]),
                np.array([])]
    hits = matched([0.6, 0.9, 0.8, 1.0], overlaps, ['f', 'f', 'f', 'g'], 0.5)
    # the best takes the first box; the next finds 0.4 free, the last 0.6
    assert hits.tolist() == [True, True, False, False]


def test_suppression_of_a_worked_example():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0.5, 0, 1.5, 1], [3, 3, 4, 4]])
    scores = np.array([0.5, 0.9, 0.6, 0.1])
    assert suppress(boxes, scores, 0.4, 10).tolist() == [1, 2, 3]
    assert suppress(boxes, scores, 0.95, 3).tolist() == [1, 2, 0]


def test_overlap_of_tubes():
    one = np.array([[frame, 0, 0, 1, 1] for frame in range(1, 5)], float)
    other = np.array([[frame, 0, 0, 1, 0.5] for frame in range(3, 9)], float)
    assert tube_iou(one, other) == pytest.approx(2 / 8 * 0.5)
    assert tube_iou(one, other[2:]) == 0


def test_linking_of_a_worked_example():
    """Two actors; one misses frames 3 and 4, which are filled; a box far away."""
    def boxes(*rows):
        return (np.array([row[:4] for row in rows], float),
                np.array([row[4:] for row in rows], float))

    frames = {1: boxes((0, 0, 4, 4, 0.9), (10, 0, 14, 4, 0.5)),
              2: boxes((10, 0, 14, 4, 0.7), (0, 0, 4, 4, 0.7), (50, 50, 60, 60, 0.1)),
              3: boxes((10, 0, 14, 4, 0.6)), 4: boxes((11, 0, 15, 4, 0.6)),
              5: boxes((3, 0, 7, 4, 0.8), (11, 0, 15, 4, 0.2))}
    tubes = sorted(link(frames, 0, min_iou=0.1), key=lambda tube: tube[0][0, 1])
    assert [tube[:, 0].tolist() for tube, _ in tubes] == [[1, 2, 3, 4, 5]] * 2 + [[2]]
    np.testing.assert_allclose(tubes[0][0][:, 1], [0, 0, 1, 2, 3])
    assert [score for _, score in tubes] == pytest.approx([0.8, 0.52, 0.1])
    # a gap that is too long, or too little overlap, begins another tube
    assert len(link(frames, 0, min_iou=0.1, max_gap=2)) == 4
    assert len(link(frames, 0, min_iou=0.2)) == 4


# Metrics


def naive_frame_map(path, samples, threshold=0.5):
    found = json.loads(open(path).read())
    values = []
    for label in range(3):
        truth = {(video, row[0]): [np.array(other[1:]) / 100 for tube in
                                   classes[str(label)] for other in tube
                                   if other[0] == row[0]]
                 for video, classes in found['gttubes'].items()
                 for tube in classes.get(str(label), []) for row in tube}
        total = sum(map(len, truth.values()))
        detections = sorted(
            ((score.item(), sample['video_id'], sample['timestamp'], box.numpy())
             for sample in samples for box, score in zip(
                 sample['pred_instances']['bboxes'],
                 sample['pred_instances']['scores'][:, label + 1], strict=True)),
            key=lambda entry: -entry[0])
        right, points = 0, []
        for rank, (_, video, frame, box) in enumerate(detections, 1):
            left = truth.get((video, frame), [])
            overlaps = [iou(box, other) for other in left]
            if overlaps and max(overlaps) >= threshold:
                left.pop(int(np.argmax(overlaps)))
                right += 1
            points.append((right / total, right / rank))
        recalls = sorted({recall for recall, _ in points if recall})
        area, before = 0, 0
        for recall in recalls:
            area += (recall - before) * max(p for r, p in points if r >= recall)
            before = recall
        values.append(area)
    return np.mean(values)


@pytest.mark.parametrize('seed', range(3))
def test_frame_map_is_the_naive_one(tmp_path, seed):
    path = write_tubes(tmp_path, seed)
    samples = predictions(path, seed + 10)
    metric = FrameMAP(path, num_classes=4, score_thr=0.0)
    value = evaluate(metric, samples)
    assert set(value) == {'frame_mAP/0.5'}
    expected = naive_frame_map(path, samples)
    assert 0.2 < expected < 0.95
    assert value['frame_mAP/0.5'] == pytest.approx(expected, abs=1e-6)


def perfect(path):
    found = json.loads(open(path).read())
    samples = []
    for video, classes in found['gttubes'].items():
        for frame in range(1, 21):
            rows = [(int(label), row[1:]) for label, tubes in classes.items()
                    for tube in tubes for row in tube if row[0] == frame]
            scores = torch.zeros(len(rows), 4)
            for at, (label, _) in enumerate(rows):
                scores[at, label + 1] = 0.9
            samples.append(dict(video_id=video, timestamp=frame, pred_instances=dict(
                bboxes=torch.tensor([box for _, box in rows]).reshape(-1, 4) / 100,
                scores=scores)))
    return samples


def test_perfect_detections(tmp_path):
    path = write_tubes(tmp_path)
    assert evaluate(FrameMAP(path, num_classes=4), perfect(path)) == {
        'frame_mAP/0.5': pytest.approx(1)}
    assert evaluate(VideoMAP(path, num_classes=4), perfect(path)) == {
        f'video_mAP/{name}': pytest.approx(1) for name in
        ('0.2', '0.5', '0.75', '0.5:0.95')}


def test_video_map_of_a_worked_example(tmp_path):
    """Boxes of 0.6 overlap: right up to that threshold; 3 of 10 thresholds."""
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(dict(
        labels=['a', 'b', 'c'], train_videos=[[]], test_videos=[['v']],
        gttubes={'v': {'1': [[[frame, 0, 0, 100, 100] for frame in range(1, 21)]]}},
        nframes={'v': 20}, resolution={'v': [100, 100]})))
    samples = [dict(video_id='v', timestamp=frame, pred_instances=dict(
        bboxes=torch.tensor([[0, 0, 1, 0.61]]), scores=torch.tensor([[0, 0, 0.5, 0]])))
        for frame in range(1, 21)]
    metric = VideoMAP(str(path), num_classes=4)
    assert evaluate(metric, samples) == pytest.approx({
        'video_mAP/0.2': 1, 'video_mAP/0.5': 1, 'video_mAP/0.75': 0,
        'video_mAP/0.5:0.95': 0.3})
    assert evaluate(VideoMAP(str(path), num_classes=4), samples[:14])[
        'video_mAP/0.2'] == 0  # too short


def test_faulty_predictions(tmp_path):
    path = write_tubes(tmp_path)
    metric = FrameMAP(path, num_classes=4)

    def process(boxes, scores, video='v0'):
        metric.process(None, [dict(video_id=video, timestamp=1, pred_instances=dict(
            bboxes=torch.tensor(boxes), scores=torch.tensor(scores)))])

    good = [[0.0, 0.0, 1.0, 1.0]]
    for arguments, message in (
            ((good, [[0.1, 0.2]]), r'num_classes=4 needs bboxes \(N, 4\) and scores'),
            (([[0.0, 0.0, 90.0, 50.0]], [[0.1] * 4]), 'needs boxes as shares'),
            (([[0.0, 0.0, float('nan'), 1.0]], [[0.1] * 4]), 'that are not finite'),
            ((good, [[0.1] * 4], 'other'), 'which is not in its split')):
        with pytest.raises(ValueError, match=message):
            process(*arguments)
    with pytest.raises(ValueError, match='needs pred_instances with bboxes and scores'):
        metric.process(None, [dict(video_id='v0', timestamp=1)])
    with pytest.raises(ValueError, match='has 3 classes, so it must be 4'):
        FrameMAP(path, num_classes=3)


def _rank(rank, folder, path):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank,
                            world_size=2)
    samples = predictions(path)[:-1]  # an odd number: a sample comes twice
    shared = [samples[at % len(samples)] for at in range(rank, len(samples) + 1, 2)]
    values = {}
    for kind in (FrameMAP, VideoMAP):
        metric = kind(path, num_classes=4)
        metric.process(None, shared)
        values |= metric.evaluate(len(samples))
    if rank == 0:
        (folder / 'values.json').write_text(json.dumps(values))
    dist.barrier()  # none leaves while the other still talks to it
    dist.destroy_process_group()


def test_two_ranks_get_the_number_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    path = write_tubes(tmp_path)
    # forked, they need not import everything again
    mp.start_processes(_rank, (tmp_path, path), nprocs=2, start_method='fork')
    values = json.loads((tmp_path / 'values.json').read_text())
    for kind in (FrameMAP, VideoMAP):
        expected = evaluate(kind(path, num_classes=4), predictions(path)[:-1])
        for name, value in expected.items():
            assert values[name] == pytest.approx(value, abs=1e-12)
