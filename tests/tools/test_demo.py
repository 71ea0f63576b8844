# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/demo.py with a recogniser: scores, pictures and mistakes."""
import importlib
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tiny_demo import (
    MERGES,
    MOTION,
    VERB_NOUN,
    config,
    frames_of,
    run,
    saved_model,
    views_of,
    write_video,
)
from tiny_run import NUM_CLASSES


def test_scores_are_those_of_the_test_dataset(demo, capsys):
    # three clips of 40 frames begin at frames 0, 12.5 (rounded to 12) and 25
    model = saved_model(demo, config(clips=3))
    expected = views_of(demo, model)
    Path('names.txt').write_text('run\njump far\nswim\n')
    got, images = run(demo, '--stride', '12', '--classes', 'names.txt',
                      checkpoint='a.pth')
    assert [w['first_frame'] for w in got['windows']] == [0, 12, 24, 25]
    assert [w['last_frame'] for w in got['windows']] == [14, 26, 38, 39]
    assert [w['seconds'] for w in got['windows']] == [0, 0.6, 1.2, 1.25]
    scores = [w['scores'] for w in got['windows']]
    np.testing.assert_allclose([scores[0], scores[1], scores[3]], expected, atol=2e-6)
    np.testing.assert_allclose(got['mean_scores'], np.mean(scores, 0), atol=2e-6)
    assert got['frames'] == 40
    assert got['names'] == {'class': ['run', 'jump far', 'swim']}
    order = np.argsort(got['mean_scores'])[::-1]
    shown = re.findall(r'^(\d)\. (.*): (.*)$', capsys.readouterr().out, re.M)
    assert [name for _, name, _ in shown] == [got['names']['class'][k] for k in order]
    assert float(shown[0][2]) == pytest.approx(max(got['mean_scores']), abs=6e-4)
    assert images.shape[0] == 40 and images.shape[2] == 48 * 7  # at least 320 wide


def test_verbs_and_nouns(demo, capsys):
    saved_model(demo, config(VERB_NOUN))
    got, _ = run(demo, checkpoint='a.pth')
    out = capsys.readouterr().out
    for task, count in (('verb', 3), ('noun', 4)):
        rows = [w['scores'][task] for w in got['windows']]
        np.testing.assert_allclose(np.sum(rows, 1), 1, atol=1e-5)
        mean = np.mean(rows, 0)
        np.testing.assert_allclose(got['mean_scores'][task], mean, atol=2e-6)
        assert len(mean) == count
        assert f'1. {task} {mean.argmax()}: {mean.max():.3f}' in out
    Path('names.txt').write_text('a\nb\nc\n')
    with pytest.raises(SystemExit):
        run(demo, '--classes', 'names.txt')
    assert 'names.txt: the model has several tasks' in capsys.readouterr().err


def test_batches_change_nothing(demo):
    saved_model(demo, config())
    one, pictures = run(demo, '--stride', '4', '--top-k', '2', checkpoint='a.pth')
    many, same = run(demo, '--stride', '4', '--top-k', '2', '--batch', '3',
                     checkpoint='a.pth')
    assert len(one['windows']) == 8  # of 15 frames, 0 to 24 by 4, and 25
    for a, b in zip(one['windows'], many['windows'], strict=True):
        np.testing.assert_allclose(a.pop('scores'), b.pop('scores'), atol=2e-6)
        assert a == b
    assert np.abs(pictures.astype(int) - same).mean() < 0.5


def test_dropped_frames_are_dark_where_the_model_looks(demo):
    config()
    plain = run(demo, '--no-tokens', '--scale', '1')[1].astype(float)
    dimmed = run(demo, '--tokens', '--scale', '1')[1].astype(float)
    original = frames_of('clip.mp4')[0].astype(float)
    assert plain.shape[2] == 48 and np.abs(plain[:, :32] - original).mean() < 4
    # uniform selection keeps token frames 0 and 3 of 4, that is, of each window of 15
    # frames the first 4 and the last 3; the last window's first frame is 25
    ratio = dimmed[:, 4:28, 12:36].mean((1, 2, 3)) / plain[:, 4:28, 12:36].mean((1, 2,
                                                                                  3))
    kept = [f % 15 < 4 or f % 15 > 11 for f in range(30)]
    kept += [f - 25 < 4 or f - 25 > 11 for f in range(30, 40)]
    np.testing.assert_allclose(ratio, np.where(kept, 1, 0.4), atol=0.05)
    # the crop is columns 8 to 40; beyond it frames are as they were
    outside = dimmed[:, :32, :6].mean((1, 2, 3)) / plain[:, :32, :6].mean((1, 2, 3))
    np.testing.assert_allclose(outside, 1, atol=0.05)


def test_a_video_shorter_than_a_window_is_looped_as_the_sampler_does(demo):
    write_video('clip.mp4', frames=5)
    model = saved_model(demo, config())
    got, images = run(demo, checkpoint='a.pth')
    (window, ) = got['windows']
    np.testing.assert_allclose(window['scores'], views_of(demo, model)[0], atol=2e-6)
    assert (window['first_frame'], window['last_frame']) == (0, 4) and len(images) == 5


def test_merged_tokens_of_three_crops(demo, monkeypatch):
    model = saved_model(demo, config(MERGES))
    got, _ = run(demo, '--window', '40', checkpoint='a.pth')
    (window, ) = got['windows']
    # the head of this config gives logits, of which the tool makes probabilities
    expected = torch.tensor(views_of(demo, model)).softmax(1).mean(0)
    np.testing.assert_allclose(window['scores'], expected, atol=2e-6)
    tokens = importlib.import_module('_video_tokens')
    monkeypatch.setattr(tokens.MergeOverlay, 'paint',
                        lambda self, image, t: np.ones(image.shape))
    images = run(demo, '--window', '20', '--scale', '1')[1]
    assert (images[:, 2:30, 10:38] > 240).all()  # the middle crop, columns 8 to 40
    assert images[:, :32, :6].max() < 240 and images[:, :32, 42:].max() < 240


def test_motion_of_the_stream(demo):
    write_video('clip.mp4', bf='0', refs='1')
    model = saved_model(demo, config(MOTION, clips=2, fields='stream'))
    got, images = run(demo, '--stride', '25', checkpoint='a.pth')
    assert [w['first_frame'] for w in got['windows']] == [0, 25] and len(images) == 40
    np.testing.assert_allclose([w['scores'] for w in got['windows']],
                               views_of(demo, model), atol=2e-6)


@pytest.mark.parametrize('arguments, words', [
    (['tiny.py', 'none', 'gone.mp4'], 'video gone.mp4 cannot be read: no such file'),
    (['tiny.py', 'none', 'tiny.py'], 'video tiny.py cannot be read: Invalid data'),
    (['tiny.py', 'none', 'sound.wav'], 'sound.wav cannot be read: it has no video'),
    (['tiny.py', 'none', '99'], 'camera 99 cannot be opened'),
    (['gone.py', 'none', 'clip.mp4'], 'config file gone.py not found'),
    (['tiny.py', 'gone.pth', 'clip.mp4'], 'gone.pth'),
    (['tiny.py', 'none', 'clip.mp4', '--out', 'a.avi'], '--out a.avi: must end in'),
    (['tiny.py', 'none', 'clip.mp4', '--out', 'clip.mp4'],
     '--out clip.mp4: is another file of this command'),
    (['tiny.py', 'none', 'clip.mp4', '--json', '.'], '--json . is a directory'),
    (['tiny.py', 'none', 'clip.mp4', '--stride', '0'], '--stride 0: must be at least'),
    (['tiny.py', 'none', 'clip.mp4', '--seconds', '-1'], '--seconds -1.0: must be'),
    (['tiny.py', 'none', 'clip.mp4', '--score-thr', '0.5'],
     '--score-thr is for detectors; the model of tiny.py is a recogniser'),
    (['tiny.py', 'none', 'clip.mp4', '--window', '20'],
     '--window 20: SampleFrames of the test pipeline of tiny.py says how long'),
    (['merges.py', 'none', 'clip.mp4'],
     'UniformSample of the test pipeline of merges.py spreads .* say with --window'),
    (['merges.py', 'none', 'clip.mp4', '--window', '7'],
     '--window 7: must be at least 8, clip_len of UniformSample'),
    (['base.py', 'none', 'clip.mp4', '--tokens'],
     '--tokens: the model of base.py has no reducers'),
    (['motion.py', 'none', '0'], 'camera 0 cannot be opened'),
    (['tiny.py', 'none', 'clip.mp4', '--classes', 'names.txt'],
     f'names.txt has 2 names, the model {NUM_CLASSES} classes'),
    (['tiny.py', 'none', 'clip.mp4', '--cfg-options',
      'test_dataloader.dataset.pipeline.2.type=Flip'],
     'the test pipeline must have a sampler of frames and then a decoder, got PyAV'),
    (['tiny.py', 'none', 'clip.mp4', '--cfg-options', 'model.cls_head.in_channels=17'],
     'the model cannot take 1 windows of 8 frames: mat1 and mat2'),
    (['tiny.py', 'none', 'clip.mp4', '--cfg-options', 'model.type=Recognizer2D'],
     'model.type=Recognizer2D: only Recognizer3D, MMRecognizer3D, EVAD'),
])
def test_mistakes_are_one_line(demo, capfd, arguments, words):
    Path('names.txt').write_text('a\nb\n')
    config(MERGES)
    Path('tiny.py').rename('merges.py')
    config(MOTION, fields='stream')
    Path('tiny.py').rename('motion.py')
    config()
    with av.open('sound.wav', 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    before = Path('clip.mp4').read_bytes()
    with pytest.raises(SystemExit) as ended:
        demo.main(arguments)
    assert ended.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines()
             if line.startswith('error: ')]
    assert len(lines) == 1 and re.search(words, lines[0]), lines
    assert not list(Path('.').rglob('*demo_video*/*')) and not Path('a.avi').exists()
    assert Path('clip.mp4').read_bytes() == before
