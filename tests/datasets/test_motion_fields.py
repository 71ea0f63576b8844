# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Fields of encoded videos against the displacement that was drawn, and real videos."""
import cv2
import numpy as np
import pytest

from mmaction_tokenreduce.datasets.motion_stream import MotionReader, flow_fields
from mmaction_tokenreduce.datasets.moving_square import (
    ENCODINGS,
    FRACTION_VELOCITIES,
    WHOLE_VELOCITIES,
    MovingSquare,
    encode,
    median_errors,
)


def encoded(path, video, name):
    """A file of one of the encodings that the benchmark has."""
    _, codec, options = ENCODINGS[name]
    return encode(path, video.frames, codec, **options)


@pytest.mark.parametrize('plain', [False, True], ids=['textured', 'plain'])
@pytest.mark.parametrize('velocity', [*WHOLE_VELOCITIES, *FRACTION_VELOCITIES])
@pytest.mark.parametrize('name', ['h264', 'h264_b', 'mpeg4'])
def test_fields_equal_the_true_displacement(tmp_path, name, velocity, plain):
    video = MovingSquare(velocity, plain)
    path = encoded(tmp_path / 'video.mp4', video, name)
    errors, flags = median_errors(video, path)
    # MPEG-4 has half pixels: of other velocities it codes the nearest, frame by frame
    coded = name != 'mpeg4' or all(float(part).is_integer() for part in velocity)
    assert max(errors.values()) < (0.5 if coded else 2.5), errors
    assert errors[1] < 0.5
    assert flags['intra_frames'] == 0 and not flags['several_references']
    assert not flags['no_vectors']


@pytest.mark.parametrize('velocity', [(2, 0), (1.5, -0.75)])
@pytest.mark.parametrize('name', ['h264_i', 'mpeg4_i'])
def test_i_frames_are_bridged_and_flagged(tmp_path, name, velocity):
    video = MovingSquare(velocity)
    path = encoded(tmp_path / 'video.mp4', video, name)
    errors, flags = median_errors(video, path)
    assert max(errors.values()) < 1.0, errors
    assert flags['intra_frames'] >= 1


@pytest.mark.parametrize('velocity', [(2, 0), (4, 0), (1.5, -0.75)])
@pytest.mark.parametrize('name', ['h264_default', 'h264_refs'])
def test_several_references_are_told_apart_and_flagged(tmp_path, name, velocity):
    video = MovingSquare(velocity)
    path = encoded(tmp_path / 'video.mp4', video, name)
    errors, flags = median_errors(video, path)
    assert max(errors.values()) < 1.0, errors
    assert flags['several_references'] and flags['references'] > 1


def test_mpeg4_b_frames_move_with_the_frame_ahead(tmp_path):
    video = MovingSquare((1.5, -0.75))
    path = encoded(tmp_path / 'video.mp4', video, 'mpeg4_b')
    errors, _ = median_errors(video, path)
    assert max(errors.values()) < 1.0, errors


@pytest.mark.parametrize('height,width', [(90, 154), (106, 122)])
def test_images_that_are_no_multiple_of_16(tmp_path, height, width):
    # the square leaves the image at its lower right corner
    video = MovingSquare((2, 1.5), True, 20, height, width, size=90)
    path = encode(tmp_path / 'video.mp4', video.frames, refs=1, bf=0, g=250)
    read = MotionReader(path).read(np.array([14, 18]), 2)
    assert np.median(video.errors(read.fields[1], 18, 14)) < 0.5
    assert read.fields.shape == (2, round(height / 4), round(width / 4), 2)
    assert not read.fields[0].any()
    # the last rows and columns lie in blocks that hang over the image
    truth = np.array([-8, -6])
    for edge in (read.fields[1][-1, -12:], read.fields[1][-12:, -1]):
        # encoders see repeated pixels beyond the edge, so not all vectors are right
        assert (edge @ truth).mean() / (truth @ truth) > 0.4


@pytest.mark.parametrize('codec,options', [
    ('libx264', dict(refs=1, bf=0)), ('libx264', {}), ('mpeg4', {})])
def test_a_still_video_has_exactly_zero_fields(tmp_path, codec, options):
    still = np.repeat(MovingSquare((0, 0)).frames[:1], 20, 0)
    path = encode(tmp_path / 'video.mp4', still, codec, **options)
    read = MotionReader(path).read(np.arange(0, 20, 3), 7)
    assert not read.fields.any() and not read.flags['no_vectors']


def test_frames_that_repeat_are_placed_by_their_pixels(tmp_path):
    # every frame shown twice: a B-frame lies at one end of its interval or the other
    video = MovingSquare((4, 0), frames=16)
    frames = video.frames.repeat(2, 0)
    path = encode(tmp_path / 'video.mp4', frames, 'mpeg4', bf=2, g=250, qmin=1, qmax=2)
    reader, even, errors = MotionReader(path), [], []
    for frame in range(8, 26):
        read = reader.read(np.array([frame - 1, frame]), 2)
        errors.append(np.median(video.errors(read.fields[1], frame // 2,
                                             (frame - 1) // 2)))
        even.append(np.median(video.errors(np.full_like(read.fields[1], (-2, 0)),
                                           frame // 2, (frame - 1) // 2)))
    assert np.mean(errors) < 0.5 * np.mean(even)


def test_a_clip_that_begins_again_is_traced_forwards(tmp_path):
    video = MovingSquare((3, 0))
    path = encode(tmp_path / 'video.mp4', video.frames, refs=1, bf=0, g=250)
    read = MotionReader(path).read(np.array([12, 8, 12]), 3)
    assert np.median(video.errors(read.fields[1], 8, 12)) < 0.5
    assert np.median(video.errors(read.fields[2], 12, 8)) < 0.5
    assert read.flags['reversed_pairs'] == 1


@pytest.mark.parametrize('method', ['dis', 'tvl1'])
def test_optical_flow_has_the_same_direction(method):
    video = MovingSquare((2, 1), True, frames=4, size=70)
    fields = flow_fields(list(video.frames), np.arange(4), 2, 4, method)
    assert not fields[0].any() and not fields[2].any()
    for frame in (1, 3):
        assert np.median(video.errors(fields[frame], frame, frame - 1)) < 0.5
    assert not flow_fields(list(video.frames[:2]), np.array([5, 5]), 2, 4, method).any()


def predicted(before, field):
    height, width = before.shape[:2]
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_NEAREST)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return cv2.remap(before, (x + field[..., 0]).astype(np.float32),
                     (y + field[..., 1]).astype(np.float32), cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize('interval', [1, 4])
@pytest.mark.parametrize('name', ['demo.mp4', 'demo_spatiotemporal_det.mp4',
                                  'mpeg4_bframes.avi'])
def test_motion_predicts_frames_of_real_videos(shared_dir, name, interval):
    path = shared_dir / 'videos' / name
    if not path.is_file():
        pytest.skip(f'needs ../shared/videos/{name}, which is not here')
    reader = MotionReader(str(path))
    inds = np.arange(0, reader.total_frames, interval)
    read = reader.read(inds, len(inds))
    frames = [image.astype(np.float32) for image in read.imgs]
    still = [np.abs(here - before).mean()
             for here, before in zip(frames[1:], frames[:-1], strict=True)]
    moved = [np.abs(here - predicted(before, field)).mean() for here, before, field in
             zip(frames[1:], read.imgs[:-1], read.fields[1:], strict=True)]
    assert np.mean(moved) < 0.9 * np.mean(still)
