# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""CheckedVideoDataset: every fault of a list or a video is named with its file."""
import logging
import re
import wave
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from tiny_run import forget_runs, write_clip

from mmaction_tokenreduce.datasets import BadVideoError, CheckedVideoDataset

PIPELINES = {
    'decord': [
        dict(type='mmaction.DecordInit'),
        dict(type='mmaction.SampleFrames', clip_len=8, test_mode=True),
        dict(type='mmaction.DecordDecode')],
    'pyav': [
        dict(type='mmaction.PyAVInit'),
        dict(type='mmaction.SampleFrames', clip_len=8, test_mode=True),
        dict(type='mmaction.PyAVDecode')],
}


@pytest.fixture(autouse=True)
def own_logger():
    forget_runs()
    yield
    forget_runs()


@pytest.fixture
def folder(tmp_path):
    write_clip(tmp_path / 'good.mp4', 0)
    return tmp_path


def dataset_of(folder, text, pipeline=(), **options):
    (folder / 'list.txt').write_text(text)
    return CheckedVideoDataset(
        str(folder / 'list.txt'), list(pipeline), data_prefix=dict(video=str(folder)),
        **options)


def entries(dataset):
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(Path(info['filename']).name, info['label']) for info in infos]


def test_paths_may_hold_blanks_and_columns_may_be_tabs(folder):
    text = 'my clip 3.mp4 2\n\na.mp4   0  \n b.mp4\t1\n   \n'
    dataset = dataset_of(folder, text, num_classes=3)
    assert entries(dataset) == [('my clip 3.mp4', 2), ('a.mp4', 0), ('b.mp4', 1)]


def test_other_delimiters(folder):
    dataset = dataset_of(folder, 'one, two.mp4,4\nb.mp4, 0\n', delimiter=',')
    assert entries(dataset) == [('one, two.mp4', 4), ('b.mp4', 0)]


def test_several_labels(folder):
    dataset = dataset_of(folder, 'a.mp4 0 2\nb.mp4 1\n', multi_class=True,
                         num_classes=3)
    (_, first), (_, second) = entries(dataset)
    torch.testing.assert_close(first, torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(second, torch.tensor([0.0, 1.0, 0.0]))
    dataset = dataset_of(folder, 'a b.mp4,1,2\n', multi_class=True, num_classes=3,
                         delimiter=',')
    assert entries(dataset)[0][0] == 'a b.mp4'


@pytest.mark.parametrize('line, options, words', [
    ('b.mp4', {}, 'has no label'),
    ('b.mp4', dict(multi_class=True, num_classes=3), 'has no label'),
    ('b.mp4 cat', {}, "no integer label, got 'cat'"),
    ('b.mp4 1.0', {}, "no integer label, got '1.0'"),
    ('my b.mp4', {}, "no integer label, got 'b.mp4'"),
    ('b.mp4 1 x', dict(multi_class=True, num_classes=3), "no integer label, got 'x'"),
    ('b.mp4 3', dict(num_classes=3), 'label 3, must be 0 to 2, as num_classes=3'),
    ('b.mp4 -1', {}, 'label -1, must be 0 or more'),
    ('b.mp4 0 3', dict(multi_class=True, num_classes=3), 'label 3, must be 0 to 2'),
])
def test_a_faulty_line_is_named(folder, line, options, words):
    with pytest.raises(ValueError) as caught:
        dataset_of(folder, f'good.mp4 0\n\n{line}\n', **options)
    message = str(caught.value)
    assert words in message and '\n' not in message
    assert f"{folder / 'list.txt'} line 3: {line!r}" in message


def test_an_empty_list(folder):
    with pytest.raises(ValueError, match=r'list.txt .*no entries'):
        dataset_of(folder, '\n  \n')


def test_options_are_checked(folder):
    with pytest.raises(ValueError, match="on_bad_video must be .* got 'ignore'"):
        dataset_of(folder, 'good.mp4 0\n', on_bad_video='ignore')
    with pytest.raises(ValueError, match='multi_class=True .* needs num_classes'):
        dataset_of(folder, 'good.mp4 0\n', multi_class=True)
    with pytest.raises(TypeError, match='num_clases'):
        dataset_of(folder, 'good.mp4 0\n', num_clases=3)


@pytest.mark.parametrize('path, options, words', [
    ('data/kinetics400/kinetics400_train_list_videos.txt', {},
     ['train_dataloader.dataset.ann_file=PATH', 'Kinetics-400', 'data/kinetics400,']),
    ('lists/sthv2_val_list_videos.txt', dict(test_mode=True),
     ['val_dataloader.dataset.ann_file=PATH test_dataloader.dataset.ann_file=PATH',
      'Something-Something V2']),
    ('/nowhere/mine.txt', {}, ['your dataset', 'MMAction2']),
    ('data/demo/train.txt', dict(hint='run make_it.py'), ['run make_it.py', '--cfg-']),
])
def test_a_missing_list_is_named_with_what_to_do(
        tmp_path, monkeypatch, path, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        CheckedVideoDataset(path, [], **options)
    message = str(caught.value)
    assert message.startswith(f'annotation file {path} not found')
    assert [word for word in words if word not in message] == []


def test_a_missing_folder_of_videos(folder):
    (folder / 'list.txt').write_text('a.mp4 0\n')
    with pytest.raises(FileNotFoundError) as caught:
        CheckedVideoDataset('list.txt', [], data_root=str(folder),
                            data_prefix=dict(video='clips'))
    message = str(caught.value)
    assert f"folder of the videos {folder / 'clips'} not found" in message
    assert 'train_dataloader.dataset.data_prefix.video=PATH' in message


def make_bad(folder, kind):
    """Write a video of one fault; its path and the reason to expect."""
    path = folder / f'{kind}.mp4'
    good = (folder / 'good.mp4').read_bytes()
    reasons = dict(missing='no such file', empty='0 bytes',
                   junk='corrupt from the start', truncated='corrupt from the start',
                   damaged='corrupt after', sound='no video stream')
    if kind == 'empty':
        path.touch()
    elif kind == 'junk':
        path.write_bytes(b'not a video ' * 100)
    elif kind == 'truncated':
        path.write_bytes(good[:len(good) // 2])
    elif kind == 'damaged':  # the stream breaks off inside, the index is whole
        half = len(good) // 2
        path.write_bytes(good[:half] + bytes(half // 2) + good[half + half // 2:])
    elif kind == 'sound':
        with wave.open(str(path), 'wb') as sound:
            sound.setparams((1, 2, 8000, 0, 'NONE', ''))
            sound.writeframes(bytes(3200))
    return path, reasons[kind]


@pytest.mark.parametrize('decoder', PIPELINES)
@pytest.mark.parametrize('kind', ['missing', 'empty', 'junk', 'truncated', 'damaged',
                                  'sound'])
def test_a_bad_video_is_named_with_the_reason(folder, kind, decoder):
    path, reason = make_bad(folder, kind)
    dataset = dataset_of(folder, f'good.mp4 0\n{path.name} 1\n', PIPELINES[decoder])
    assert len(dataset[0]['imgs']) == 8
    with pytest.raises(BadVideoError) as caught:
        dataset[1]
    message = str(caught.value)
    assert message.startswith(f'video {path} cannot be read: ') and '\n' not in message
    assert reason in message and "on_bad_video='skip'" in message


def test_a_name_without_suffix_is_that_of_an_mp4(folder):
    dataset = dataset_of(folder, 'good 0\nother 1\n', PIPELINES['decord'])
    assert len(dataset[0]['imgs']) == 8
    with pytest.raises(BadVideoError, match=r'other.mp4 .*no such file'):
        dataset[1]


def test_skip_takes_another_sample_and_says_so_once(folder, caplog):
    make_bad(folder, 'empty')
    dataset = dataset_of(folder, 'empty.mp4 0\ngood.mp4 1\n', PIPELINES['decord'],
                         on_bad_video='skip')
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        assert [dataset[0]['label'] for _ in range(4)] == [1] * 4
    finally:
        logger.removeHandler(caplog.handler)
    warnings = [record.getMessage() for record in caplog.records
                if record.levelno == logging.WARNING
                and 'empty.mp4' in record.getMessage()]
    assert len(warnings) == 1 and re.search('Skipped: .*0 bytes', warnings[0])


def test_skip_ends_when_no_video_is_left(folder):
    dataset = dataset_of(folder, 'a.mp4 0\nb.mp4 1\n', PIPELINES['decord'],
                         on_bad_video='skip')
    with pytest.raises(BadVideoError, match='none of the 2 videos .*no such file'):
        dataset[0]


def test_a_test_set_never_skips(folder):
    dataset = dataset_of(folder, 'a.mp4 0\ngood.mp4 1\n', PIPELINES['decord'],
                         on_bad_video='skip', test_mode=True)
    with pytest.raises(BadVideoError) as caught:
        dataset[0]
    assert 'on_bad_video' not in str(caught.value)


@pytest.mark.parametrize('on_bad_video', ['raise', 'skip'])
def test_a_faulty_pipeline_is_not_blamed_on_the_video(folder, on_bad_video):
    def step(results):
        raise RuntimeError('a step of the pipeline failed')

    dataset = dataset_of(folder, 'good.mp4 0\n', [*PIPELINES['decord'], step],
                         on_bad_video=on_bad_video)
    with pytest.raises(RuntimeError, match='a step') as caught:
        dataset[0]
    assert any('good.mp4' in note for note in caught.value.__notes__)


def test_the_error_comes_through_worker_processes(folder):
    dataset = dataset_of(folder, 'missing.mp4 0\n', PIPELINES['decord'])
    loader = torch.utils.data.DataLoader(dataset, num_workers=1)
    with pytest.raises(BadVideoError, match=r'missing.mp4 cannot be read'):
        next(iter(loader))


def test_repeated_augmentation_runs_the_pipeline_anew(folder):
    pipeline = [dict(type='mmaction.DecordInit'),
                dict(type='mmaction.SampleFrames', clip_len=2, num_clips=1),
                dict(type='mmaction.DecordDecode')]
    dataset = dataset_of(folder, 'good.mp4 1', pipeline, num_repeats=8)
    repeats = dataset[0]
    assert len(repeats) == 8 and all(item['label'] == 1 for item in repeats)
    assert len({tuple(item['frame_inds']) for item in repeats}) > 1
    # one is a list, too, which the same collate_fn takes
    (item, ) = dataset_of(folder, 'good.mp4 1', pipeline, num_repeats=1)[0]
    assert item['label'] == 1
    assert dataset_of(folder, 'good.mp4 1', pipeline)[0]['label'] == 1
    with pytest.raises(ValueError, match='num_repeats must be at least 1, got 0'):
        dataset_of(folder, 'good.mp4 1', pipeline, num_repeats=0)
