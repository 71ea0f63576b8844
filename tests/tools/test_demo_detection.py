# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/demo.py with a detector: boxes, actions, and the tokens it keeps."""
import importlib
import re
from pathlib import Path

import numpy as np
import torch
from tiny_demo import detector, frames_of, run, write_video


def test_detection(demo, capsys):
    write_video('clip.mp4', height=51, width=71)
    model = detector(person_thr=0.0)
    Path('names.txt').write_text('sit\nstand\nrun\ntalk\nsing\n')
    got, images = run(demo, '--stride', '7', '--batch', '2', '--score-thr', '0',
                      '--classes', 'names.txt', '--top-k', '1', checkpoint='a.pth')
    original = frames_of('clip.mp4')[0]
    assert images.shape == (40, 52, 72, 3)  # even sides
    assert [w['keyframe'] for w in got['windows']] == [0, 7, 14, 21, 28, 35]
    pipeline = importlib.import_module('_video_windows').WindowPipeline(
        demo.load_config('tiny.py'), 'tiny.py', True)
    for window in got['windows']:
        inds = np.clip(window['keyframe'] + 2 * np.arange(-4, 4), 0, 39)
        results = dict(imgs=list(original[inds]), original_shape=(51, 71),
                       img_shape=(51, 71), num_clips=1, clip_len=8, modality='RGB')
        for step in pipeline.rest:
            results = step(results)
        batch = model.data_preprocessor(dict(
            inputs=[results['inputs']], data_samples=[results['data_samples']]))
        with torch.inference_mode():
            found = model(**batch, mode='predict')[0].pred_instances
        boxes = np.array([actor['box'] for actor in window['actors']])
        np.testing.assert_allclose(boxes, found.bboxes.numpy() * [71, 51, 71, 51],
                                   atol=0.02)
        np.testing.assert_allclose([actor['scores'] for actor in window['actors']],
                                   found.scores[:, 1:].numpy(), atol=1e-4)
        np.testing.assert_allclose([actor['person'] for actor in window['actors']],
                                   found.person_scores.numpy(), atol=1e-4)
    out = capsys.readouterr().out
    assert re.search(r'^60 boxes of actors on 6 keyframes$', out, re.M)  # 10 proposals
    assert re.search(r'^(sit|stand|run|talk|sing): \d+ times$', out, re.M)
    # nothing is drawn where nobody is certain to be there, though the model gives boxes
    nobody, plain = run(demo, '--person-thr', '1', '--stride', '20', checkpoint='a.pth')
    assert [w['actors'] for w in nobody['windows']] == [[], []]
    assert np.abs(plain[:, :51, :71].astype(int) - original).mean() < 4


def test_tokens_that_a_detector_keeps(demo, monkeypatch):
    write_video('clip.mp4', height=48, width=64)  # 64x86 for the model, padded to 64x96
    model = detector()
    got, images = run(demo, '--stride', '20', '--person-thr', '1', '--tokens',
                      checkpoint='a.pth')
    plain = frames_of('clip.mp4')[0].astype(float)
    ratio = images / np.maximum(plain, 1)
    # cells of 16 of 86 columns, 64 px wide here: the middle of the first three
    columns, rows = [6, 18, 30], [6, 18, 30, 42]
    cells = np.stack([[ratio[:, r - 3:r + 3, c - 3:c + 3].mean((1, 2, 3))
                       for c in columns] for r in rows], -1)  # (columns, N, rows)
    dark = cells < 0.7
    assert not dark[:, [0, 1, 20, 21]].any()  # the keyframe loses nothing
    assert dark[:, 4:7].any() and not dark[:, 4:7].all()
    trace = importlib.import_module('_video_tokens').PruningTrace(model)
    pipeline = importlib.import_module('_video_windows').WindowPipeline(
        demo.load_config('tiny.py'), 'tiny.py', True)
    original = frames_of('clip.mp4')[0]
    results = dict(imgs=list(original[20 + 2 * np.arange(-4, 4)]), num_clips=1,
                   original_shape=(48, 64), img_shape=(48, 64), clip_len=8)
    for step in pipeline.rest:
        results = step(results)
    batch = model.data_preprocessor(dict(inputs=[results['inputs']],
                                         data_samples=[results['data_samples']]))
    with torch.inference_mode(), trace:
        model(**batch, mode='predict')
    kept = trace.pruned(0, (4, 4, 6))[-1].kept
    # frame 24 is sampled frame 6, of token frame 3
    np.testing.assert_array_equal(~dark[:, 24], kept[3, :, :3].T)
