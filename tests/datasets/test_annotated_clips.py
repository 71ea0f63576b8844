# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Diving-48 and EPIC-KITCHENS-100 from their official files; faults by place."""
import json
from pathlib import Path

import pytest
import torch
from mmaction.registry import DATASETS
from tiny_run import write_clip

from mmaction_tokenreduce.datasets import (
    BadVideoError,
    Diving48Dataset,
    EpicKitchensDataset,
)
from mmaction_tokenreduce.datasets.epic_kitchens import EpicSegment, read_segments

PIPELINE = [dict(type='mmaction.DecordInit'),
            dict(type='mmaction.SampleFrames', clip_len=4, test_mode=True),
            dict(type='mmaction.DecordDecode'),
            dict(type='mmaction.FormatShape', input_format='NCTHW'),
            dict(type='mmaction.PackActionInputs')]
DIVES = [dict(vid_name='_8Vy_00000', label=46, end_frame=8, start_frame=0),
         dict(vid_name='-mAq_00001', label=0, end_frame=8, start_frame=0)]
# the columns of the official file, and a narration with commas and quotes
HEADER = ('narration_id,participant_id,video_id,narration_timestamp,start_timestamp,'
          'stop_timestamp,start_frame,stop_frame,narration,verb,verb_class,noun,'
          'noun_class,all_nouns,all_noun_classes\n')
ROWS = [
    'P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,'
    'door,3,[\'door\'],[3]\n',
    'P01_01_10,P01,P01_01,00:00:02.629,01:02:03.50,01:02:06.17,16,370,"turn on, ""hob""'
    '",turn-on,96,light,299,"[\'light\', \'hob\']","[299, 1]"\n',
]


@pytest.fixture
def folder(tmp_path):
    for name in ('_8Vy_00000', '-mAq_00001', 'P01_01_0'):
        write_clip(tmp_path / f'{name}.mp4', 0, frames=8)
    return tmp_path


def diving(folder, text, **options):
    (folder / 'train.json').write_text(text)
    return DATASETS.build(dict(
        type='Diving48Dataset', ann_file=str(folder / 'train.json'),
        data_prefix=dict(video=str(folder)), pipeline=PIPELINE, **options))


def epic(folder, text, **options):
    (folder / 'train.csv').write_text(text)
    return DATASETS.build(dict(
        type='EpicKitchensDataset', ann_file=str(folder / 'train.csv'),
        data_prefix=dict(video=str(folder)), pipeline=PIPELINE, **options))


def entries(dataset):
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(Path(info['filename']).name, info['label']) for info in infos]


def test_diving48(folder):
    dataset = diving(folder, json.dumps(DIVES))
    assert entries(dataset) == [('_8Vy_00000.mp4', 46), ('-mAq_00001.mp4', 0)]
    packed = dataset[0]
    assert packed['inputs'].shape == (1, 3, 4, 32, 32)
    assert packed['data_samples'].gt_label.tolist() == [46]
    assert len(diving(folder, json.dumps(DIVES), num_repeats=2)[0]) == 2


def test_epic_kitchens(folder):
    dataset = epic(folder, HEADER + ''.join(ROWS))
    assert entries(dataset) == [('P01_01_0.mp4', [3, 3]), ('P01_01_10.mp4', [96, 299])]
    label = dataset[0]['data_samples'].gt_label
    assert label.tolist() == [3, 3] and label.dtype == torch.long
    with pytest.raises(BadVideoError, match=r'P01_01_10.mp4 cannot .* no such file'):
        dataset[1]


def test_columns_are_found_by_name(folder):
    text = 'noun_class,narration_id,verb_class,new\n7,P02_1_0,5,x\n\n8,P02_1_1,6,\n'
    dataset = epic(folder, '\ufeff' + text, num_verbs=7, num_nouns=9)
    assert entries(dataset) == [('P02_1_0.mp4', [5, 7]), ('P02_1_1.mp4', [6, 8])]


def test_segments(tmp_path):
    path = tmp_path / 'test.csv'
    path.write_text(HEADER + ''.join(ROWS))
    assert read_segments(str(path)) == [
        EpicSegment('P01_01_0', 'P01_01', 0.14, 3.37),
        EpicSegment('P01_01_10', 'P01_01', 3723.5, 3726.17)]
    assert read_segments(str(path))[1].clip == 'P01_01_10.mp4'
    # the test set has no labels
    path.write_text('narration_id,video_id,start_timestamp,stop_timestamp\n'
                    'P01_11_0,P01_11,00:00:00.00,00:00:01.89\n')
    assert read_segments(str(path)) == [EpicSegment('P01_11_0', 'P01_11', 0, 1.89)]


@pytest.mark.parametrize('text,words', [
    ('[', 'train.json is not JSON: .*line 1'),
    ('{}', 'must be a list .* got dict'),
    ('[]', 'has no entries'),
    (json.dumps([DIVES[0], 3]), 'entry 2 must be an object .* got 3'),
    (json.dumps([dict(label=1)]), 'entry 1 has no file name as vid_name, got None'),
    (json.dumps([DIVES[0], dict(vid_name='../x', label=1)]), "entry 2 .* got '../x'"),
    (json.dumps([dict(vid_name='x', label=48)]),
     'entry 1 has label 48, must be 0 to 47, as num_classes=48'),
    (json.dumps([dict(vid_name='x', label=-1)]), 'label -1, must be'),
    (json.dumps([dict(vid_name='x')]), 'no whole number as label, got None'),
    (json.dumps([dict(vid_name='x', label=1.5)]), 'no whole number as label, got 1.5'),
    (json.dumps([dict(vid_name='x', label=True)]), 'no whole number .* got True'),
])
def test_faults_of_diving48(folder, text, words):
    with pytest.raises(ValueError, match=words) as caught:
        diving(folder, text)
    assert str(folder / 'train.json') in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('old,new,words', [
    (',open,3,', ',open,97,', 'line 2 has verb_class 97, must be 0 to 96, as '
                              'num_verbs=97'),
    (',299,', ',300,', 'line 3 has noun_class 300, must be 0 to 299, as num_nouns=300'),
    (',open,3,', ',open,-1,', 'line 2 has verb_class -1, must be'),
    (',open,3,', ',open,x,', "line 2 has no whole number as verb_class, got 'x'"),
    (',open,3,', ',open,,', 'line 2 has no verb_class$'),
    ('P01_01_10,', 'P01_01_0,', 'line 3 has narration_id P01_01_0, as line 2'),
    ('P01_01_10,', '../P01,', "line 3 has narration_id '../P01', must be letters"),
    ('verb_class', 'verb_klass', 'line 1 has no column verb_class; got .*verb_klass'),
])
def test_faults_of_epic_kitchens(folder, old, new, words):
    text = HEADER + ''.join(ROWS)
    assert text.count(old) == 1
    with pytest.raises(ValueError, match=words) as caught:
        epic(folder, text.replace(old, new))
    assert str(folder / 'train.csv') in str(caught.value)


def test_an_empty_csv(folder):
    with pytest.raises(ValueError, match='line 1 has no column narration_id'):
        epic(folder, '')
    with pytest.raises(ValueError, match='train.csv .* has no entries'):
        epic(folder, HEADER)


@pytest.mark.parametrize('old,new,words', [
    ('00:00:00.14', '0.14', "line 2 has start_timestamp '0.14', must be hours:min"),
    ('00:00:03.37', '00:61:03', "line 2 has stop_timestamp '00:61:03'"),
    ('00:00:03.37', '00:00:00.14', 'line 2 stops at .*, must be after its start'),
    ('P01_01,00:00:01', 'P01/01,00:00:01', "line 2 has video_id 'P01/01'"),
])
def test_faults_of_segments(tmp_path, old, new, words):
    text = HEADER + ''.join(ROWS)
    assert text.count(old) == 1
    (tmp_path / 'train.csv').write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=words):
        read_segments(str(tmp_path / 'train.csv'))


@pytest.mark.parametrize('kind,options,words', [
    (Diving48Dataset, dict(multi_class=True), 'Diving48Dataset takes no multi_class'),
    (EpicKitchensDataset, dict(delimiter=','), 'takes no delimiter'),
    (EpicKitchensDataset, dict(num_classes=97), 'no num_classes, but num_verbs'),
])
def test_options_of_lists_are_refused(kind, options, words):
    with pytest.raises(TypeError, match=words):
        kind('nowhere', [], **options)


@pytest.mark.parametrize('kind', [Diving48Dataset, EpicKitchensDataset])
def test_a_missing_file_or_folder_is_named(tmp_path, kind):
    with pytest.raises(FileNotFoundError, match='annotation file .*a.csv .*do this'):
        kind(str(tmp_path / 'a.csv'), [], hint='do this')
    (tmp_path / 'a.csv').touch()
    with pytest.raises(FileNotFoundError, match=r'videos .*clips not found .*video=PA'):
        kind('a.csv', [], data_root=str(tmp_path), data_prefix=dict(video='clips'))
