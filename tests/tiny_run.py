# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A complete run in seconds, for tests: clips of 32x32 pixels, lists and a config.

The model is mmaction2's own MViT, so that these tests speak of the tools alone.
"""
from pathlib import Path

import av
import numpy as np
from mmaction.visualization import ActionVisualizer
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES = 3

CONFIG = '''
_base_ = {base!r}

model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='MViT',
        arch=dict(embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1]),
        spatial_size=32, temporal_size=8, rel_pos_embed=False, rel_pos_zero_init=True,
        drop_path_rate=0.2),
    cls_head=dict(type='MViTHead', in_channels=16, num_classes={num_classes},
                  dropout_ratio=0.5, topk=(1, ), average_clips='prob'),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[114.75] * 3,
                           std=[57.375] * 3, format_shape='NCTHW'))

train_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=1),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(40, 40), keep_ratio=False),
    dict(type='RandomCrop', size=32),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')]
test_pipeline = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=1,
         test_mode=True),
    dict(type='DecordDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')]


def loader(ann_file, pipeline, train):
    return dict(
        batch_size=2, num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=train),
        dataset=dict(
            type='CheckedVideoDataset', ann_file={data!r} + '/' + ann_file,
            data_prefix=dict(video={data!r}), num_classes={num_classes},
            pipeline=pipeline, test_mode=not train))


train_dataloader = loader('train.txt', train_pipeline, True)
val_dataloader = test_dataloader = loader('val.txt', test_pipeline, False)
val_evaluator = test_evaluator = dict(type='AccMetric', metric_options=dict(
    top_k_accuracy=dict(topk=(1,))))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, T_max=2,
                       convert_to_iter_based=True)
default_hooks = dict(logger=dict(interval=1))
del loader
'''


def write_clip(path: Path, colour: int, frames: int = 16) -> None:
    """Write a clip of 32x32 pixels, noise with one colour channel raised.

    Args:
        path (Path): The mp4 file.
        colour (int): The channel, and seed of the noise.
        frames (int): Number of frames. Defaults to 16.
    """
    noise = np.random.RandomState(colour)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=16)
        stream.width = stream.height = 32
        stream.pix_fmt = 'yuv420p'
        for _ in range(frames):
            image = noise.randint(0, 128, (32, 32, 3), dtype=np.uint8)
            image[..., colour % 3] += 100
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_data(folder: Path) -> None:
    """Write eight clips for training, three for validation, and both lists.

    Args:
        folder (Path): An existing folder.
    """
    for split, count in (('train', 8), ('val', 3)):
        lines = []
        for index in range(count):
            name = f'{split} {index}.mp4'  # with a space, on purpose
            write_clip(folder / name, index)
            lines.append(f'{name} {index % NUM_CLASSES}\n')
        (folder / f'{split}.txt').write_text(''.join(lines))


def write_config(path: Path, data: Path, num_classes: int = NUM_CLASSES) -> Path:
    """Write the config of a tiny run.

    Args:
        path (Path): The config file.
        data (Path): The folder of ``write_data``.
        num_classes (int): Classes of the head. Defaults to those of the data.

    Returns:
        Path: ``path``.
    """
    path.write_text(CONFIG.format(
        base=str(ROOT / 'configs/_base_/default_runtime.py'), data=str(data),
        num_classes=num_classes))
    return path


def forget_runs() -> None:
    """Drop what mmengine keeps of runs in this process (loggers, hubs, scopes).

    Its loggers hold the stdout of the test that made them, which pytest closes.
    """
    for manager in (MMLogger, MessageHub, Visualizer, ActionVisualizer, DefaultScope):
        manager._instance_dict.clear()
